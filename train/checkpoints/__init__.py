"""A run on disk: its folder, its checkpoints, and the checks before it is resumed."""
