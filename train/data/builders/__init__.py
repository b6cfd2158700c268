"""Our own TFDS builders, each in a package, because TFDS names a data set after the package."""
