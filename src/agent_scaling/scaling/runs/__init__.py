"""Reads tables of runs from CSV files and MLflow, and logs fits."""
