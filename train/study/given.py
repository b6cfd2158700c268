"""The photographs that networks of a study restore, and how these photographs are degraded."""

import functools
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np

from train.checkpoints.checkpoint import Network
from train.checkpoints.digests import digest_weights
from train.checkpoints.origin import origin_of
from train.config import DataConfig
from train.data.images import to_float, to_uint8
from train.data.sources import Source, open_source
from train.data.splits import seen_in
from train.errors import InputError, list_some
from train.inference.files.colours import noise_in
from train.inference.predict import NOT_FINITE
from train.inference.predictors import predictor_for
from train.inference.scoring.protocols import NOISE_SEED, add_fixed_noise
from train.inference.tiles.tiles import photograph_of
from train.study.pictures import PictureSet


@dataclass(frozen=True)
class Given:
    """Photographs, and how networks receive them.

    Attributes:
      source: clean photographs, or pairs of degraded and clean ones.
      sigma: noise level (0 to 255) that clean photographs get, and that is passed to networks that
        need one. None: photographs are degraded already, and the level is estimated for each.
      seed: seed of the noise.
      has_clean: whether the photographs of the source are clean. Otherwise they are degraded, and
        the clean ones are not known.
    """

    source: Source
    sigma: float | None
    seed: int = NOISE_SEED
    has_clean: bool = True

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the photographs without endings.

        Raises:
          InputError: two differ only in their endings.
        """
        names = [PurePosixPath(name).with_suffix("").as_posix() for name in self.source.names]
        (name, count), *_ = Counter(names).most_common(1)
        if count > 1:
            raise InputError(
                f"{self.source.spec} holds several photographs named {name}, with different "
                "endings. Keep one of them."
            )
        return tuple(names)

    def degraded(self, i: int) -> np.ndarray:
        """A photograph as the networks receive it."""
        if self.source.inputs is not None:
            return to_float(self.source.inputs[i])
        image = to_float(self.source.images[i])
        if not self.has_clean:
            return image
        assert self.sigma is not None
        return add_fixed_noise(image, self.source.names[i], sigma=self.sigma, seed=self.seed)

    def references(self) -> list[PictureSet]:
        """The clean photographs and the degraded ones, if the clean ones are known."""
        if not self.has_clean:
            return []
        return [
            self._set("--clean", "clean", lambda i: self.source.images[i]),
            self._set("--input", "input", lambda i: to_uint8(self.degraded(i))),
        ]

    def results(self, flag: str, name: str, network: Network) -> PictureSet:
        """What a network makes of the photographs.

        Args:
          flag: the option that named the network, for errors.
          name: what the set is called.
          network: the network.

        Returns:
          The set. Photographs are restored when they are decoded.

        Raises:
          InputError: the network restores grey photographs.
        """
        if network.model.channels != 3:
            raise InputError(
                f"{flag}: {network.spec} restores grey photographs. Restore them with `python -m "
                "train restore`, and name the folder of the results instead."
            )
        predictor = predictor_for(network.model, network.params, network.batch_stats)
        takes_sigma = network.model.takes_sigma

        def result(i: int) -> np.ndarray:
            image = self.degraded(i)
            told = noise_in(photograph_of(image), self.sigma) if takes_sigma else None
            found = predictor.restore(image, sigma=told)
            if np.isnan(found).any():
                raise InputError(f"{flag} {name}, {self.names[i]}: {NOT_FINITE}")
            return to_uint8(found)

        digest = digest_weights(network.params, network.batch_stats)
        return self._set(flag, name, result, digest=digest)

    def warnings_about(self, flag: str, network: Path) -> list[str]:
        """A sentence if the network was trained on some of the photographs."""
        seen = seen_in(origin_of(network).photographs or frozenset(), self.source)
        if not seen:
            return []
        return [
            f"{flag} {network} was trained on {list_some(seen)}. What it makes of them says little "
            "about other photographs."
        ]

    def _set(
        self, flag: str, name: str, decode: Callable[[int], np.ndarray], *, digest: str = ""
    ) -> PictureSet:
        pictures = {name: functools.partial(decode, i) for i, name in enumerate(self.names)}
        return PictureSet(flag, name, pictures, digest=digest)


def level_of(name: str, data: DataConfig) -> float:
    """The noise level that a network was trained with, to add to clean photographs.

    Args:
      name: what the network is called in an error.
      data: the photographs that it was trained on.

    Returns:
      The level, 0 to 255.

    Raises:
      InputError: it was not trained on added noise.
    """
    if data.low_light or data.source.startswith("pairs:"):
        raise InputError(
            f"{name} was not trained on noise that was added. Give degraded photographs with "
            "--input, or the level of the noise to add with --sigma."
        )
    return data.sigma


def open_given(clean: Path | None, degraded: Path | None, sigma: float | None) -> Given:
    """Opens the photographs in folders, for networks to restore.

    Args:
      clean: folder of clean photographs.
      degraded: folder of degraded photographs, with the same names. None: noise is added.
      sigma: noise level (0 to 255), to add or to pass to networks.

    Returns:
      The photographs.

    Raises:
      InputError: if they cannot be used.
    """
    if degraded is None:
        return Given(open_source(f"folder:{clean}", "test"), sigma)
    if clean is None:
        return Given(open_source(f"folder:{degraded}", "test"), sigma, has_clean=False)
    return Given(open_source(f"pairs:{degraded},{clean}", "test"), sigma)
