"""State dictionaries for PyTorch code, as safetensors."""

from typing import Any

import numpy as np
import safetensors.numpy
from flax.traverse_util import flatten_dict, unflatten_dict

from lumloss_jax.models import DnCNN, ScicoUNet, to_torch_state_dict, variable_shapes
from train.checkpoints.checkpoint import Network
from train.errors import InputError
from train.inference.exports.function import PRODUCER
from train.inference.predict import for_inference
from train.network import parse_model

PRODUCER_KEY = "producer"  # in the metadata of the file
_MERGED = "dncnn_kair_merged"
_FEWEST = 8  # convolutions by which spandrel 0.4 recognizes that form


def to_torch(network: Network, *, kair: bool) -> tuple[bytes, list[str]]:
    """Writes the weights of a network under the names of its PyTorch code.

    Args:
      network: the network of a checkpoint.
      kair: fold the batch norm of a DnCNN, and use the names of cszn/KAIR.

    Returns:
      The content of a safetensors file, and sentences about what is in it.

    Raises:
      InputError: if ``kair`` does not apply to this network.
    """
    notes = []
    if kair:
        arrays = _merged(network)
        named = f"as in cszn/KAIR, with batch norm folded: {_spec(network.model)}"
        if network.model.depth < _FEWEST:
            notes.append(
                f"note: spandrel recognizes this form from {_FEWEST} convolutions on, and this "
                f"network has {network.model.depth}."
            )
    else:
        name, fields = parse_model(network.spec)
        variables = {"params": network.params, "batch_stats": network.batch_stats}
        arrays = to_torch_state_dict(name, variables, **fields)
        named = "as in the network's PyTorch code"
        if isinstance(network.model, ScicoUNet):
            named = "by their Flax paths, joined with dots, because there is no PyTorch code"
        elif isinstance(network.model, DnCNN) and network.model.biases != "all":
            notes.append(
                "note: spandrel does not recognize these names. Use --kair for chaiNNer, ComfyUI "
                "and other programs that are built on it."
            )
    content = safetensors.numpy.save(
        arrays, metadata={"model": network.spec, PRODUCER_KEY: PRODUCER}
    )
    return content, [f"{len(arrays)} arrays, named {named}", *notes]


def _spec(model: Any) -> str:
    """What ``import --model`` must be given to read the merged form."""
    channels = "" if model.channels == 3 else f", channels={model.channels}"
    return f"{_MERGED}(depth={model.depth}, features={model.features}{channels})"


def _merged(network: Network) -> dict[str, np.ndarray]:
    """A DnCNN in KAIR's merged form: no batch norm, and a bias in every convolution."""
    if not isinstance(network.model, DnCNN):
        raise InputError(
            f"--kair is only for networks of the kind dncnn, not for {network.spec}. Leave it out."
        )
    if network.model.padding != "zeros":
        raise InputError(
            f"--kair does not fit {network.spec}: KAIR's DnCNN pads with zeros, and this network "
            f'has padding="{network.model.padding}". Leave it out.'
        )
    model, variables = for_inference(network.model, network.params, network.batch_stats)
    fields = {"depth": model.depth, "features": model.features, "channels": model.channels}
    with_biases: Any = model.clone(bias="all")
    # A bias that did not exist is zero.
    params = {
        path: np.zeros(leaf.shape, np.float32)
        for path, leaf in flatten_dict(variable_shapes(with_biases)["params"]).items()
    } | flatten_dict(dict(variables["params"]))
    return to_torch_state_dict(_MERGED, {"params": unflatten_dict(params)}, **fields)
