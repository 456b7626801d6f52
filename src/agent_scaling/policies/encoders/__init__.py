"""Encoders: a screen becomes a vector. One file per observation family."""
