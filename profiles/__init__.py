"""Cost models: fits of measured profiles, a calibrated roofline, and what policies are given."""
