"""Result schema, run records, stored tables and MLflow."""
