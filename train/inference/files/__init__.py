"""Photographs that are restored, from file to file: names, pixels, colours and records."""
