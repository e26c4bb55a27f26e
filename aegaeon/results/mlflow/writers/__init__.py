"""What imports mlflow and SQLAlchemy, which is slow: loaded only when a store is opened."""
