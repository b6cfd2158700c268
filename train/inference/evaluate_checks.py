"""Checks that a protocol, a data set and a network fit together, before anything is scored."""

import dataclasses
import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np

from train.checkpoints.checkpoint import Network
from train.data.sources import Source, smaller_than
from train.data.splits import SMALLEST_SCORED
from train.errors import InputError, list_some
from train.inference.scoring.classical import BaselineName
from train.inference.scoring.protocols import PROTOCOLS, Protocol, find_protocol


def protocol_at(name: str, sigmas: tuple[float, ...]) -> Protocol:
    """Finds a protocol by its name, at these noise levels (0 to 255); (): at its own."""
    protocol = find_protocol(name)
    if not sigmas:
        return protocol
    if not protocol.sigmas:
        raise InputError(
            "--sigmas are levels of noise that is added to clean photographs, but --protocol "
            f"{name} scores photographs that are degraded already. Leave --sigmas out, "
            f"or use --protocol {_noisy()}."
        )
    return dataclasses.replace(protocol, sigmas=sigmas)


def check_baselines(
    baselines: Sequence[BaselineName], protocol: Protocol, protocol_name: str
) -> None:
    """Refuses classical methods if the noise level that they need is unknown.

    Args:
      baselines: the methods.
      protocol: the protocol.
      protocol_name: its name, for the error.

    Raises:
      InputError: if the protocol adds no noise of a known level, or a method is named twice.
    """
    if baselines and not protocol.sigmas:
        raise InputError(
            f"--baselines are told the noise level, which is unknown for --protocol "
            f"{protocol_name}. Leave --baselines out, or use --protocol {_noisy()}."
        )
    if len(set(baselines)) < len(baselines):
        raise InputError(f"--baselines must differ; got {', '.join(baselines)}.")


def _noisy() -> str:
    """Lists the protocols that add noise."""
    *names, last = (name for name in PROTOCOLS if PROTOCOLS[name].sigmas)
    return f"{', '.join(names)} or {last}"


def check_fits(protocol: Protocol, name: str, source: Source, network: Network) -> None:
    """Raises an error if a protocol, a data set and a network do not fit together.

    Args:
      protocol: the protocol.
      name: its name, for the error.
      source: the photographs.
      network: the network.

    Raises:
      InputError: if the photographs cannot be scored by this protocol, or restored by the network.
    """
    if protocol.sigmas and source.inputs is not None:
        raise InputError(
            f"--protocol {name} adds noise to clean photographs, but {source.spec} has pairs. Use "
            "--protocol pairs."
        )
    if not protocol.sigmas and source.inputs is None:
        raise InputError(
            f"--protocol {name} restores degraded photographs, but {source.spec} has only clean "
            f"ones. Use --protocol {_noisy()}."
        )
    if small := smaller_than(source, SMALLEST_SCORED):
        raise InputError(
            f"{len(small)} of {len(source.names)} photographs of {source.spec} are too small to "
            f"be scored: {list_some(small)}. Each side must have at least {SMALLEST_SCORED} "
            "pixels. Leave them out."
        )
    model: Any = network.model
    if not protocol.sigmas and model.takes_sigma:
        raise InputError(
            f"{network.spec} needs the noise level, which is unknown for the pairs of "
            f"{source.spec}. Use a network that does not need it."
        )
    if model.channels == 1:
        given = (
            source.images
            if source.inputs is None
            else itertools.chain(source.images, source.inputs)
        )
        names = itertools.cycle(source.names)
        colour = [
            name for name, image in zip(names, given, strict=False) if np.ptp(image, axis=-1).any()
        ]
        if colour:
            raise InputError(
                f"{network.spec} restores grey photographs, but {len(colour)} are in colour; the "
                f"first is {colour[0]}. Convert them to grey, or use a network with channels=3."
            )
