"""The named networks: their classes, their fields and their cost."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from flax import linen as nn

from lumloss_jax.models._buifd import BUIFD
from lumloss_jax.models._cidnet import CIDNet
from lumloss_jax.models._dncnn import DnCNN
from lumloss_jax.models._drunet import DRUNet
from lumloss_jax.models._nafnet import NAFNet
from lumloss_jax.models._retinexformer import Retinexformer
from lumloss_jax.models._unet import UNet
from lumloss_jax.models._unet_dpir import DPIRUNet
from lumloss_jax.models._unet_scico import ScicoUNet


class Preset(NamedTuple):
    """One named network.

    Attributes:
      network: class of the network, a Flax Linen module.
      config: fields that differ from the class's defaults.
      parameters: number of trained parameters (without batch norm's running values).
      macs_per_pixel: multiply-accumulate operations per pixel, in convolutions and matrix products.
      reference: source of the network's form.
      macs_per_image: multiply-accumulate operations that an image of any size needs in addition.

    Example:
      >>> preset = PRESETS["drunet"]
      >>> f"{preset.parameters:,} parameters, {preset.macs_per_pixel:,} MACs per pixel"
      '32,640,960 parameters, 2,117,568 MACs per pixel'
    """

    network: type[nn.Module]
    config: Mapping[str, Any]
    parameters: int
    macs_per_pixel: int
    reference: str
    macs_per_image: int = 0


_KAIR_NORM = {"norm_epsilon": 1e-4, "norm_momentum": 0.1}

PRESETS: Mapping[str, Preset] = {
    "dncnn": Preset(
        DnCNN, {}, 558_336, 556_416, "Zhang et al. 2017, layers as in majedelhelou/BUIFD"
    ),
    "dncnn_blind": Preset(
        DnCNN, {"depth": 20}, 669_312, 667_008, "Zhang et al. 2017, blind, majedelhelou/BUIFD"
    ),
    "dncnn_kair": Preset(
        DnCNN,
        {"bias": "all", "initializer": "kair", **_KAIR_NORM},
        559_363,
        556_416,
        "Zhang et al. 2017, cszn/KAIR",
    ),
    "dncnn_kair_merged": Preset(
        DnCNN,
        {"batch_norm": False, "initializer": "kair"},
        557_443,
        556_416,
        "the same, batch norm folded",
    ),
    "dncnn_scico": Preset(
        DnCNN,
        {"padding": "circular", "norm_momentum": 0.99, "initializer": "scico"},
        558_336,
        556_416,
        "Zhang et al. 2017, lanl/scico",
    ),
    "unet": Preset(UNet, {}, 8_564_163, 757_632, "Ronneberger et al. 2015, as in deepinv"),
    "unet_dpir": Preset(
        DPIRUNet, {}, 11_558_915, 605_568, "Zhang et al. 2021, the plain UNet of cszn/DPIR"
    ),
    "unet_scico": Preset(ScicoUNet, {}, 11_659_264, 868_224, "Balke et al. 2022, lanl/scico"),
    "drunet": Preset(
        DRUNet, {}, 32_640_960, 2_117_568, "Zhang et al. 2021, cszn/KAIR and cszn/DPIR"
    ),
    "buifd": Preset(
        BUIFD, {}, 1_196_448, 1_193_504, "El Helou and Suesstrunk 2020, majedelhelou/BUIFD"
    ),
    "retinexformer": Preset(
        Retinexformer, {}, 1_605_701, 254_160, "Cai et al. 2023, caiyuanhao1998/Retinexformer"
    ),
    "nafnet": Preset(
        NAFNet, {}, 29_159_715, 244_768, "Chen et al. 2022, megvii-research/NAFNet", 3_919_872
    ),
    "nafnet_w64": Preset(
        NAFNet,
        {"width": 64},
        115_982_915,
        964_672,
        "Chen et al. 2022, megvii-research/NAFNet",
        15_679_488,
    ),
    "cidnet": Preset(CIDNet, {}, 1_975_569, 120_213, "Yan et al. 2025, Fediory/HVI-CIDNet"),
}
