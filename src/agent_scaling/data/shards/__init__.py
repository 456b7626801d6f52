"""Games as WebDataset shards: written once, read in a data order that is a pure function."""
