"""Photographs as files: finds those to restore, reads and writes pixels, and keeps records."""
