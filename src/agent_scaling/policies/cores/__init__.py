"""Cores: sequence models between encoder and heads. One file each."""
