"""Names of each network's layers in PyTorch code, as rows, and known renamings.

A row pairs a PyTorch module's name with a Flax module's path and says what kind of layer it is;
shapes and axes follow from the kind (``_torch_weights``). A network without a row function uses its
Flax paths, joined with dots.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from flax import linen as nn

from lumloss_jax.models._buifd import BUIFD
from lumloss_jax.models._dncnn import DnCNN
from lumloss_jax.models._drunet import DRUNet
from lumloss_jax.models._retinexformer import Retinexformer
from lumloss_jax.models._unet import UNet
from lumloss_jax.models._unet_dpir import DPIRUNet


class Row(NamedTuple):
    """One layer: its PyTorch name, its Flax path, and its kind.

    The kinds are ``conv`` (also transposed), ``dense``, ``batch_norm``, ``layer_norm``, and
    ``parameter``, for which both names belong to an array that is copied unchanged.
    """

    torch: str
    path: tuple[str, ...]
    kind: str


class Naming(NamedTuple):
    """Names of one network, as functions of its module: rows, and other names in files.

    ``renamings`` are pairs of a regular expression and a replacement, which gives the name in the
    rows. The first that matches a key is used.
    """

    rows: Callable[[Any], list[Row]]
    renamings: Callable[[Any], list[tuple[str, str]]] = lambda model: []


def dncnn_rows(
    depth: int, batch_norm: bool, *, prefix: str, path: tuple[str, ...] = ()
) -> list[Row]:
    """DnCNN's sequential list of convolution, batch norm and ReLU."""
    slots = 3 if batch_norm else 2
    rows = [Row(f"{prefix}0", (*path, "conv_first"), "conv")]
    for i in range(depth - 2):
        rows.append(Row(f"{prefix}{2 + slots * i}", (*path, f"block_{i}", "conv"), "conv"))
        if batch_norm:
            rows.append(
                Row(f"{prefix}{3 + slots * i}", (*path, f"block_{i}", "norm"), "batch_norm")
            )
    return [*rows, Row(f"{prefix}{2 + slots * (depth - 2)}", (*path, "conv_last"), "conv")]


def _dncnn_prefix(model: DnCNN) -> str:
    # The biases tell the three code bases apart: majedelhelou/BUIFD, cszn/DnCNN, cszn/KAIR.
    return {"none": "dncnn.dncnn.", "first": "dncnn.", "all": "model."}[model.biases]


def _dncnn(model: DnCNN) -> list[Row]:
    return dncnn_rows(model.depth, model.batch_norm, prefix=_dncnn_prefix(model))


def _dncnn_renamings(model: DnCNN) -> list[tuple[str, str]]:
    return [(r"^(?:dncnn\.dncnn|dncnn|model)\.(?=\d)", _dncnn_prefix(model))]


def _buifd(model: BUIFD) -> list[Row]:
    return [
        *dncnn_rows(model.depth, True, prefix="dncnn.dncnn.", path=("prior",)),
        *dncnn_rows(model.level_depth, True, prefix="noisecnn.noisecnn.", path=("level",)),
        *(Row(f"FinalFusionLayers.fusion_layers.{i}", (f"fusion_{i}",), "conv") for i in range(3)),
    ]


def _buifd_renamings(model: BUIFD) -> list[tuple[str, str]]:
    # In the authors' file for colour and sigma up to 55
    return [(r"^FusionLayers\.", "FinalFusionLayers.")]


def _conv_blocks(
    prefix: str, path: tuple[str, ...], names: list[str], batch_norm: bool, start: int = 0
) -> list[Row]:
    """Convolution blocks as one flat list, with a slot each for convolution, norm and ReLU."""
    rows = []
    for i, name in enumerate(names):
        slot = start + (3 if batch_norm else 2) * i
        conv = "transposed_conv" if name == "expand" else "conv"
        rows.append(Row(f"{prefix}.{slot}", (*path, name, conv), "conv"))
        if batch_norm:
            rows.append(Row(f"{prefix}.{slot + 1}", (*path, name, "norm"), "batch_norm"))
    return rows


def _unet(model: UNet) -> list[Row]:
    def pair(torch: str, name: str) -> list[Row]:
        return _conv_blocks(torch, (name,), ["block_0", "block_1"], model.batch_norm)

    levels = len(model.features)
    rows = [
        row for level in range(1, levels + 1) for row in pair(f"Conv{level}", f"encoder_{level}")
    ]
    for level in range(levels, 1, -1):
        # Slot 0 doubles
        rows.extend(_conv_blocks(f"Up{level}", (), [f"up_{level}"], model.batch_norm, start=1))
        rows.extend(pair(f"Up_conv{level}", f"decoder_{level}"))
    return [*rows, Row("Conv_1x1", ("conv_last",), "conv")]


def _unet_dpir(model: DPIRUNet) -> list[Row]:
    blocks = [f"block_{i}" for i in range(model.blocks + 1)]
    stages = range(1, len(model.features))

    def stage(torch: str, name: str, names: list[str]) -> list[Row]:
        return _conv_blocks(torch, (name,), names, model.batch_norm)

    rows = [Row("m_head.0", ("head",), "conv")]
    for i in stages:
        rows.extend(stage(f"m_down{i}", f"down_{i}", [*blocks[:-1], "reduce"]))
    rows.extend(stage("m_body", "body", blocks))
    for i in reversed(stages):
        rows.extend(stage(f"m_up{i}", f"up_{i}", ["expand", *blocks[:-1]]))
    return [*rows, Row("m_tail", ("tail",), "conv")]


def _drunet(model: DRUNet) -> list[Row]:
    def blocks(torch: str, name: str, start: int = 0) -> list[Row]:
        return [
            Row(f"{torch}.{start + i}.res.{slot}", (name, f"block_{i}", conv), "conv")
            for i in range(model.blocks)
            for slot, conv in ((0, "conv_0"), (2, "conv_1"))
        ]

    stages = range(1, len(model.features))
    rows = [Row("m_head", ("head",), "conv")]
    for i in stages:
        rows.extend(blocks(f"m_down{i}", f"down_{i}"))
        rows.append(Row(f"m_down{i}.{model.blocks}", (f"down_{i}", "reduce"), "conv"))
    body = blocks("m_body", "body")
    # In the authors' code, a body of one block is not a list, so its name lacks the index.
    rows.extend(
        [row._replace(torch=row.torch.replace(".0.res", ".res")) for row in body]
        if model.blocks == 1
        else body
    )
    for i in reversed(stages):
        rows.append(Row(f"m_up{i}.0", (f"up_{i}", "expand"), "conv"))
        rows.extend(blocks(f"m_up{i}", f"up_{i}", start=1))
    return [*rows, Row("m_tail", ("tail",), "conv")]


def _retinexformer(model: Retinexformer) -> list[Row]:
    def blocks(torch: str, path: str, name: str, count: int) -> list[Row]:
        return [
            Row(f"{torch}.blocks.{i}.{entry}", (path, f"{name}_block_{i}", *layer), kind)
            for i in range(count)
            for entry, layer, kind in (
                ("0.rescale", ("attention", "rescale"), "parameter"),
                ("0.to_q", ("attention", "queries"), "dense"),
                ("0.to_k", ("attention", "keys"), "dense"),
                ("0.to_v", ("attention", "values"), "dense"),
                ("0.proj", ("attention", "project"), "dense"),
                ("0.pos_emb.0", ("attention", "position_0"), "conv"),
                ("0.pos_emb.2", ("attention", "position_1"), "conv"),
                ("1.fn.net.0", ("expand",), "conv"),
                ("1.fn.net.2", ("depthwise",), "conv"),
                ("1.fn.net.4", ("contract",), "conv"),
                ("1.norm", ("norm",), "layer_norm"),
            )
        ]

    def stage(estimator: str, denoiser: str, lights: str, path: str) -> list[Row]:
        names = (("conv1", "expand"), ("depth_conv", "spread"), ("conv2", "light"))
        rows = [Row(f"{estimator}.{torch}", (lights, name), "conv") for torch, name in names]
        rows.append(Row(f"{denoiser}.embedding", (path, "embed"), "conv"))
        *outer, bottleneck = model.num_blocks
        for level, count in enumerate(outer):
            torch = f"{denoiser}.encoder_layers.{level}"
            rows.extend(blocks(f"{torch}.0", path, f"down_{level}", count))
            rows.append(Row(f"{torch}.1", (path, f"halve_{level}"), "conv"))
            rows.append(Row(f"{torch}.2", (path, f"halve_guide_{level}"), "conv"))
        rows.extend(blocks(f"{denoiser}.bottleneck", path, "bottleneck", bottleneck))
        # The authors count from the bottleneck up
        for i, (level, count) in enumerate(reversed(list(enumerate(outer)))):
            torch = f"{denoiser}.decoder_layers.{i}"
            rows.append(Row(f"{torch}.0", (path, f"double_{level}"), "conv"))
            rows.append(Row(f"{torch}.1", (path, f"fuse_{level}"), "conv"))
            rows.extend(blocks(f"{torch}.2", path, f"up_{level}", count))
        return [*rows, Row(f"{denoiser}.mapping", (path, "output"), "conv")]

    return [
        row
        for i in range(model.stages)
        for row in stage(
            f"body.{i}.estimator", f"body.{i}.denoiser", f"estimator_{i}", f"restorer_{i}"
        )
    ]


# Modules that PyTorch wraps around others, at any depth and in any order: DataParallel and
# averages, torch.compile, fully sharded training, activation checkpoints. No network here has a
# layer with one of these names.
WRAPPERS = frozenset(("module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"))

NAMINGS: Mapping[type[nn.Module], Naming] = {
    BUIFD: Naming(_buifd, _buifd_renamings),
    DnCNN: Naming(_dncnn, _dncnn_renamings),
    DPIRUNet: Naming(_unet_dpir),
    DRUNet: Naming(_drunet),
    Retinexformer: Naming(_retinexformer),
    UNet: Naming(_unet),
}


def naming_of(model: nn.Module) -> Naming | None:
    """The names of a network's layers, or None if no PyTorch code for it is known."""
    return NAMINGS.get(type(model))


def rows_by_path(paths: list[tuple[str, ...]]) -> list[Row]:
    """Rows for a network without PyTorch code: the paths of its variables, joined with dots."""
    leaves: dict[tuple[str, ...], set[str]] = {}
    for _, *layer, leaf in paths:
        leaves.setdefault(tuple(layer), set()).add(leaf)
    return [
        Row(".".join(layer), layer, "conv" if "kernel" in names else "batch_norm")
        for layer, names in leaves.items()
    ]


def canonical(key: str, renamings: list[tuple[str, str]]) -> str:
    """The name in the rows for a file's key: without wrappers, with known renamings applied."""
    *modules, leaf = key.split(".")
    key = ".".join([*(name for name in modules if name not in WRAPPERS), leaf])
    for pattern, replacement in renamings:
        renamed, count = re.subn(pattern, replacement, key)
        if count:
            return renamed
    return key
