"""Reads weights trained with PyTorch, without PyTorch, checks them, and writes a checkpoint."""
