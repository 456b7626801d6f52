"""Tables of runs, from CSV files and MLflow."""
