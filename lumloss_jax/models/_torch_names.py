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
from lumloss_jax.models._cidnet import LEVELS, CIDNet
from lumloss_jax.models._dncnn import DnCNN
from lumloss_jax.models._drunet import DRUNet
from lumloss_jax.models._nafnet import NAFNet
from lumloss_jax.models._retinexformer import Retinexformer
from lumloss_jax.models._unet import UNet
from lumloss_jax.models._unet_dpir import DPIRUNet


class Row(NamedTuple):
    """One layer: its PyTorch name, its Flax path, and its kind.

    The kinds are ``conv`` (also transposed), ``dense``, ``batch_norm``, ``layer_norm``, and two for
    which both names belong to an array: ``parameter``, which is copied unchanged, and
    ``channels``, which holds one number per channel and has shape (1, c, 1, 1) in PyTorch.
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


def _nafnet(model: NAFNet) -> list[Row]:
    def blocks(torch: str, name: str, count: int) -> list[Row]:
        return [
            Row(f"{torch}.{i}.{entry}", (f"{name}_block_{i}", layer), kind)
            for i in range(count)
            for entry, layer, kind in (
                ("beta", "gain_0", "channels"),
                ("gamma", "gain_1", "channels"),
                ("conv1", "expand_0", "conv"),
                ("conv2", "depthwise", "conv"),
                ("conv3", "contract_0", "conv"),
                ("sca.1", "attention", "conv"),
                ("conv4", "expand_1", "conv"),
                ("conv5", "contract_1", "conv"),
                ("norm1", "norm_0", "layer_norm"),
                ("norm2", "norm_1", "layer_norm"),
            )
        ]

    levels = range(len(model.encoder_blocks))
    # The authors count decoders from the smallest size
    upwards = list(enumerate(reversed(levels)))
    rows = [Row("intro", ("intro",), "conv"), Row("ending", ("ending",), "conv")]
    for level in levels:
        rows += blocks(f"encoders.{level}", f"encoder_{level}", model.encoder_blocks[level])
    for i, level in upwards:
        rows += blocks(f"decoders.{i}", f"decoder_{level}", model.decoder_blocks[i])
    rows += blocks("middle_blks", "middle", model.middle_blocks)
    rows += [Row(f"ups.{i}.0", (f"up_{level}",), "conv") for i, level in upwards]
    return rows + [Row(f"downs.{level}", (f"down_{level}",), "conv") for level in levels]


def _nafnet_renamings(model: NAFNet) -> list[tuple[str, str]]:
    # In mmagic's conversions of the authors' files
    return [(r"^generator\.", "")]


def _cidnet(model: CIDNet) -> list[Row]:
    def sized(torch: str, path: str, convs: dict[str, str]) -> list[Row]:
        norm = [Row(f"{torch}.norm", (path, "norm"), "layer_norm")] if model.norm else []
        rows = [*norm, Row(f"{torch}.prelu.weight", (path, "slope"), "parameter")]
        return rows + [Row(f"{torch}.{one}", (path, name), "conv") for one, name in convs.items()]

    def branch(torch: str, path: str) -> list[Row]:
        rows = [Row(f"{torch}E_block0.1", (f"{path}_in",), "conv")]
        for level in range(1, LEVELS + 1):
            rows += sized(f"{torch}E_block{level}", f"{path}_down_{level}", {"down.0": "conv"})
        # The authors give a doubling block the number of its input
        for level in reversed(range(LEVELS)):
            convs = {"up_scale.0": "conv", "up": "fuse"}
            rows += sized(f"{torch}D_block{level + 1}", f"{path}_up_{level}", convs)
        return [*rows, Row(f"{torch}D_block0.1", (f"{path}_out",), "conv")]

    def layer(torch: str, path: str, gate_first: bool) -> list[Row]:
        gate = [
            Row(f"{torch}.gdfn.{entry}", (path, "gate", name), "conv")
            for entry, name in (
                ("project_in", "expand"),
                ("dwconv", "depthwise"),
                ("dwconv1", "depthwise_0"),
                ("dwconv2", "depthwise_1"),
                ("project_out", "contract"),
            )
        ]
        norm = Row(f"{torch}.norm", (path, "norm"), "layer_norm")
        attention = [
            Row(f"{torch}.ffn.{entry}", (path, "attention", name), kind)
            for entry, name, kind in (
                ("temperature", "temperature", "parameter"),
                ("q", "queries_0", "conv"),
                ("q_dwconv", "queries_1", "conv"),
                ("kv", "keys_values_0", "conv"),
                ("kv_dwconv", "keys_values_1", "conv"),
                ("project_out", "project", "conv"),
            )
        ]
        return [*gate, norm, *attention] if gate_first else [norm, *gate, *attention]

    rows = branch("HV", "color") + branch("I", "intensity")
    for i in range(1, 7):
        rows += layer(f"HV_LCA{i}", f"color_layer_{i}", gate_first=True)
    for i in range(1, 7):
        rows += layer(f"I_LCA{i}", f"intensity_layer_{i}", gate_first=False)
    return [*rows, Row("trans.density_k", ("k",), "parameter")]


# Modules that PyTorch wraps around others, at any depth and in any order: DataParallel and
# averages, torch.compile, fully sharded training, activation checkpoints. No network here has a
# layer with one of these names.
WRAPPERS = frozenset(("module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"))

NAMINGS: Mapping[type[nn.Module], Naming] = {
    BUIFD: Naming(_buifd, _buifd_renamings),
    CIDNet: Naming(_cidnet),
    DnCNN: Naming(_dncnn, _dncnn_renamings),
    DPIRUNet: Naming(_unet_dpir),
    DRUNet: Naming(_drunet),
    NAFNet: Naming(_nafnet, _nafnet_renamings),
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
