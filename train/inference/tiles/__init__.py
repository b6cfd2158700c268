"""Photographs of any size in tiles, restored as if they had not been cut."""
