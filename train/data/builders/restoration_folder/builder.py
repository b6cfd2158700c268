"""Writes any folder of photographs or of pairs into array_record files.

Files are stored byte for byte and decoded when they are read, so every format, 16 bits and
orientation are kept. There is one split, ``train``. Photographs for tests are set aside where the
data set is used.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from train.data.folders import Listing


@dataclass(kw_only=True)
class FolderConfig(tfds.core.BuilderConfig):
    """A name for the data set, and the photographs in it."""

    listing: Listing | None = field(default=None, repr=False)


class RestorationFolder(tfds.core.GeneratorBasedBuilder):
    """Photographs as encoded bytes: ``target``, ``input`` if there are pairs, and ``name``."""

    VERSION = tfds.core.Version("1.0.0")

    def _info(self) -> Any:
        encoded = tfds.features.Tensor(shape=(), dtype=np.object_)
        sides = ("target",) if self._listing.inputs is None else ("input", "target")
        return tfds.core.DatasetInfo(
            builder=self,
            features=tfds.features.FeaturesDict(
                {side: encoded for side in sides} | {"name": tfds.features.Text()}
            ),
            description="Photographs from a folder, as encoded files.",
            disable_shuffling=True,
        )

    @property
    def _listing(self) -> Listing:
        config = self.builder_config
        if not isinstance(config, FolderConfig) or config.listing is None:
            raise ValueError(
                "restoration_folder needs a folder. Run: python -m train data folder:PATH --prepare"
            )
        return config.listing

    def _split_generators(self, dl_manager: Any) -> dict[str, Any]:
        del dl_manager
        return {"train": self._generate_examples()}

    def _generate_examples(self) -> Iterator[tuple[str, dict[str, Any]]]:
        listing = self._listing
        for i, name in enumerate(listing.names):
            example = {"target": listing.files[i].read_bytes(), "name": name}
            if listing.inputs is not None:
                example["input"] = listing.input_files[i].read_bytes()
            yield name, example
