"""Devices, and the processes that share a run: where arrays are stored, and how a run ends."""
