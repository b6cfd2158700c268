"""Prepares LOL version 1 from a folder that the user has downloaded.

``our485`` is the training split, and ``eval15`` is the test split.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import tensorflow_datasets as tfds

from train.data.folders import list_pairs
from train.errors import InputError, list_some

_SPLITS = {"train": "our485", "test": "eval15"}


class Lol(tfds.core.GeneratorBasedBuilder):
    """Pairs of photographs of 400x600 pixels, in low and in normal light."""

    VERSION = tfds.core.Version("1.0.0")
    MANUAL_DOWNLOAD_INSTRUCTIONS = """
    Download LOL version 1 from its authors' page, https://daooshee.github.io/BMVC2018website/,
    unpack it, and give the folder with our485/ and eval15/, or with low/ and high/, as
    --manual-dir.
    """

    def _info(self) -> Any:
        return self.dataset_info_from_configs(
            features=tfds.features.FeaturesDict(
                {
                    "low": tfds.features.Image(shape=(None, None, 3), encoding_format="png"),
                    "high": tfds.features.Image(shape=(None, None, 3), encoding_format="png"),
                    "name": tfds.features.Text(),
                }
            ),
            description="Photographs in low light, and the same scenes in normal light.",
            homepage="https://daooshee.github.io/BMVC2018website/",
            citation=(
                "Wei, Wang, Yang, Liu: Deep Retinex Decomposition for Low-Light Enhancement, BMVC "
                "2018."
            ),
            supervised_keys=("low", "high"),
            disable_shuffling=True,
        )

    def _split_generators(self, dl_manager: Any) -> dict[str, Any]:
        folder = Path(dl_manager.manual_dir)
        found = {
            split: folder / name for split, name in _SPLITS.items() if (folder / name).is_dir()
        }
        if not found and (folder / "low").is_dir():
            found = {"train": folder}
        if not found:
            raise InputError(
                f"{folder} has neither our485/ and eval15/ nor low/ and high/. Give the folder of "
                "LOL that has them."
            )
        return {split: self._generate_examples(path) for split, path in found.items()}

    def _generate_examples(self, folder: Path) -> Iterator[tuple[str, dict[str, Any]]]:
        listing = list_pairs(f"{folder / 'low'},{folder / 'high'}")
        if listing.mismatches:
            raise InputError(
                f"{folder} holds photographs without a partner: "
                f"{list_some(listing.mismatches, between='; ')}."
            )
        for name, high, low in zip(listing.names, listing.files, listing.input_files, strict=True):
            yield name, {"low": low, "high": high, "name": name}
