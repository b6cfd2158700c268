"""Devices and the processes that share a run: where arrays lie, and how a run ends."""
