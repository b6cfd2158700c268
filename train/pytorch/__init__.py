"""Weights trained with PyTorch: read without PyTorch, checked, and written as a checkpoint."""
