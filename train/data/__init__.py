"""Photographs in: files, sources, and the stream of training batches."""
