"""TFDS builders of our own, each in a package of its own: TFDS names a data set by its builder's package."""
