"""Small networks of every kind with random weights, for tests of how far they look."""

import functools
from typing import Any

import flax.linen as nn
import jax
import numpy as np

from lumloss_jax.models import create_model, variable_shapes

# Each network is as shallow as it can be and still have all that defines it: levels, edges, batch
# norm.
_SHALLOW = {
    "dncnn": {"depth": 3, "features": 4},
    "dncnn_scico": {"depth": 3, "features": 4},
    "unet": {"features": (2, 4), "batch_norm": False},
    "unet_scico": {"depth": 2, "features": 2, "block_depth": 1},
    "unet_dpir": {"features": (2, 4, 4), "blocks": 1},
    "drunet": {"features": (2, 4), "blocks": 1},
    "buifd": {
        "depth": 3,
        "features": 4,
        "level_depth": 2,
        "level_features": 4,
        "fusion_features": 4,
    },
    "retinexformer": {"features": 4, "levels": 1, "num_blocks": (1, 1)},
    "cidnet": {"features": (4, 4, 4, 4), "heads": (1, 2, 1)},
    "nafnet": {"width": 4, "encoder_blocks": (1,), "middle_blocks": 1, "decoder_blocks": (1,)},
}
# One more of everything that is counted, and no two counts alike: if two were mixed up, the radius
# would be different.
_DEEPER = {
    "dncnn": {"depth": 6, "features": 2},
    "unet": {"features": (2, 2, 4, 4), "batch_norm": False},
    "unet_scico": {"depth": 3, "features": 2, "block_depth": 2},
    "unet_dpir": {"features": (2, 2, 4, 4), "blocks": 2},
    "drunet": {"features": (2, 2, 4), "blocks": 2},
    "buifd": {
        "depth": 3,
        "features": 4,
        "level_depth": 4,
        "level_features": 2,
        "fusion_features": 4,
    },
    "retinexformer": {"features": 4, "levels": 2, "num_blocks": (1, 1, 2)},
    "nafnet": {
        "width": 4,
        "encoder_blocks": (2, 1),
        "middle_blocks": 3,
        "decoder_blocks": (1, 3),
    },
}
SMALL_NETWORKS = _SHALLOW | {f"deeper {name}": fields for name, fields in _DEEPER.items()}


@functools.cache
def network_for_tiles(name: str) -> tuple[nn.Module, Any]:
    """A small network in which every weight counts: none is zero, and no statistic is fresh."""
    model = create_model(name.removeprefix("deeper "), **SMALL_NETWORKS[name])
    shapes = {"batch_stats": {}, **variable_shapes(model)}
    # Seeds with which few outputs are clipped away
    rng = np.random.default_rng(4 if name.startswith("deeper ") else 0)

    def draw(path: Any, leaf: Any) -> np.ndarray:
        if path[-1].key in ("bias", "mean"):
            return rng.uniform(-0.1, 0.1, leaf.shape).astype(np.float32)
        if path[-1].key in ("scale", "var", "rescale", "temperature", "k"):
            return rng.uniform(0.7, 1.3, leaf.shape).astype(np.float32)
        return (rng.normal(size=leaf.shape) / np.sqrt(np.prod(leaf.shape[:-1]))).astype(np.float32)

    return model, jax.tree_util.tree_map_with_path(draw, shapes)
