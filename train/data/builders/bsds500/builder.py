"""Prepares the photographs of BSDS500 from a folder that the user has downloaded.

CBSD68 is the test split and is never trained on.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import tensorflow_datasets as tfds

from train.errors import InputError, list_some

# The 68 photographs on which papers compare denoising. Roth and Black chose them from the test
# photographs of BSDS300 ("Fields of Experts", CVPR 2005). In BSDS500 they are in the validation
# split.
CBSD68 = frozenset(
    """
    3096 12084 14037 16077 19021 21077 24077 33039 101085 101087 102061 103070 105025 106024
    108005 108070 108082 109053 119082 123074 126007 130026 134035 143090 145086 147091 148026
    148089 157055 159008 160068 163085 167062 167083 170057 175032 175043 182053 189080 196073
    197017 208001 210088 216081 219090 220075 223061 227092 229036 236037 241004 241048 253027
    253055 260058 271035 285079 291000 295087 296007 296059 299086 300091 302008 304034 304074
    306005 351093
    """.split()
)


_HOMEPAGE = "https://www2.eecs.berkeley.edu/Research/Projects/CS/vision/grouping/resources.html"


class Bsds500(tfds.core.GeneratorBasedBuilder):
    """Photographs of 481x321 or 321x481 pixels: 432 to train on and 68 to test on."""

    VERSION = tfds.core.Version("1.0.0")
    MANUAL_DOWNLOAD_INSTRUCTIONS = """
    Download the Berkeley Segmentation Data Set 500 from its authors' page,
    https://www2.eecs.berkeley.edu/Research/Projects/CS/vision/grouping/resources.html, unpack it,
    and give a folder that has the JPEG files in it or below as --manual-dir.
    """

    def _info(self) -> Any:
        return self.dataset_info_from_configs(
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Image(shape=(None, None, 3), encoding_format="jpeg"),
                    "name": tfds.features.Text(),
                }
            ),
            description="Photographs of BSDS500: CBSD68 to test on, the other 432 to train on.",
            homepage=_HOMEPAGE,
            citation=(
                "Arbelaez, Maire, Fowlkes, Malik: Contour Detection and Hierarchical Image "
                "Segmentation, IEEE TPAMI 33(5), 2011."
            ),
            disable_shuffling=True,
        )

    def _split_generators(self, dl_manager: Any) -> dict[str, Any]:
        folder = Path(dl_manager.manual_dir)
        # The names of its photographs are numbers. Other files in the folder do not belong to it.
        photographs = {
            path.stem: path for path in sorted(folder.rglob("*.jpg")) if path.stem.isdigit()
        }
        missing = sorted(CBSD68 - photographs.keys(), key=int)
        if missing:
            raise InputError(
                f"{folder} lacks {len(missing)} of the 68 photographs of CBSD68: "
                f"{list_some(missing)}. Unpack the data set again."
            )
        test = {name: path for name, path in photographs.items() if name in CBSD68}
        train = {name: path for name, path in photographs.items() if name not in CBSD68}
        return {"train": self._generate_examples(train), "test": self._generate_examples(test)}

    def _generate_examples(
        self, photographs: dict[str, Path]
    ) -> Iterator[tuple[str, dict[str, Any]]]:
        for name, path in photographs.items():
            yield name, {"image": path, "name": name}
