"""Metrics: one value per image."""

__all__: list[str] = []
