"""Any folder of photographs or of pairs as a TFDS data set."""

from train.data.builders.restoration_folder.builder import FolderConfig, RestorationFolder

__all__ = ["FolderConfig", "RestorationFolder"]
