"""Cost models: fits of measured times, a calibrated roofline, and the choice between them."""
