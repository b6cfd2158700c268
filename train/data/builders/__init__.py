"""TFDS builders of our own, each in a package: TFDS names a data set by its builder's package."""
