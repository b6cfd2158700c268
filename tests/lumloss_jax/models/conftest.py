"""Reference files of the networks, small forms of every preset, and a jit that compiles quickly."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import pytest
from flax import linen as nn

from lumloss_jax.models import PRESETS, variable_shapes
from tests.shared_data import KEPT, SHARED

_NAFNET = {"width": 8, "encoder_blocks": (1,), "middle_blocks": 1, "decoder_blocks": (1,)}

# Fields that make each preset small enough to compile in a second; a new preset is a new line.
SMALL = {
    "buifd": {
        "depth": 3,
        "features": 4,
        "level_depth": 3,
        "level_features": 4,
        "fusion_features": 4,
    },
    "cidnet": {"features": (32, 32, 32, 32), "heads": (1, 2, 1)},
    "dncnn": {"depth": 3, "features": 6},
    "dncnn_blind": {"depth": 3, "features": 6},  # as dncnn, so that its programs are compiled once
    "dncnn_kair": {"depth": 3, "features": 6},
    "dncnn_kair_merged": {"depth": 3, "features": 6},
    "dncnn_scico": {"depth": 3, "features": 6},
    "drunet": {"features": (4, 6), "blocks": 1},
    "nafnet": _NAFNET,
    "nafnet_w64": _NAFNET,
    "retinexformer": {"features": 4, "levels": 1, "num_blocks": (0, 1)},
    "unet": {"features": (4, 6)},
    "unet_dpir": {"features": (4, 6), "blocks": 1},
    "unet_scico": {"features": 4, "depth": 2, "block_depth": 1},
}


@pytest.fixture(params=list(PRESETS))
def small(request: pytest.FixtureRequest) -> tuple[str, dict]:
    """Name and fields of each preset in turn, small."""
    return request.param, SMALL[request.param]


@pytest.fixture
def random_variables() -> Callable[[nn.Module], Any]:
    """Draws a model's variables with NumPy.

    Batch norm's scales and variances are positive, and kernels have He's size.

    Drawing them with ``model.init`` compiles for seconds, several times the network itself.
    """

    def draw(model: nn.Module) -> Any:
        generator = np.random.default_rng(0)

        def leaf(path: tuple, shape: jax.ShapeDtypeStruct) -> np.ndarray:
            values = generator.standard_normal(shape.shape)
            kind = path[-1].key
            if kind in ("scale", "var"):
                values = 0.5 + np.abs(values)
            elif kind == "kernel":
                values *= np.sqrt(2 / np.prod(shape.shape[:-1]))
            else:
                values *= 0.1
            return values.astype(shape.dtype)

        return jax.tree_util.tree_map_with_path(leaf, variable_shapes(model))

    return draw


@pytest.fixture(scope="session")
def jit() -> Callable[..., Any]:
    """``jax.jit`` with options under which XLA compiles in a fifth of the time.

    Programs of small arrays do not run longer.
    """
    quick = functools.partial(
        jax.jit,
        compiler_options={
            "xla_backend_optimization_level": 0,
            "xla_cpu_use_fusion_emitters": False,
        },
    )
    try:
        quick(lambda x: x)(0.0)
    except Exception:  # another jaxlib names its options differently, and its error has no one type
        return jax.jit
    return quick


@pytest.fixture
def reference() -> Callable[[str], dict[str, np.ndarray]]:
    """Loads a reference file.

    It is the whole file if ../shared exists, else the part that the repository keeps.
    """
    folder = SHARED / "fixtures" if SHARED.is_dir() else KEPT

    def load(name: str) -> dict[str, np.ndarray]:
        with np.load(folder / f"{name}.npz") as file:
            return dict(file)

    return load
