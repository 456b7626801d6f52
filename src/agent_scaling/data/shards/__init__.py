"""Games as WebDataset shards: their format, storage, cache and random access."""
