"""Degradations: key first, sigma in image units."""

__all__: list[str] = []
