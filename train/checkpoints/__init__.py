"""A run on disk: its folder, its checkpoints, and what a resumed run is compared with."""
