"""LightningDataModules: where batches come from."""
