"""Reads photographs: files, sources, and the stream of training batches."""
