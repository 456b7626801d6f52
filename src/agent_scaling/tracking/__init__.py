"""MLflow: the logger, its outbox, and stored runs."""
