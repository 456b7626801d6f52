"""Settings of a plan that are found out: by laws of earlier runs, and by timing steps."""
