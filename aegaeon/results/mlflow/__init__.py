"""Results in MLflow: what is logged, and how."""
