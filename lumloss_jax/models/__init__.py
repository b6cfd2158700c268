"""Restoration networks in Flax Linen, behind one calling convention.

``model.apply(variables, images, *, sigma=None, train=False)`` returns one array, the restored
images: channels last, float32, same shape as the images, not clipped. ``sigma`` is the noise's
standard deviation in image units, for networks that need it (drunet); blind networks raise an error
if they get it. With ``train=True``, batch norm uses the batch's statistics: apply with
``mutable=["batch_stats"]``.

A network also has the attributes ``channels``, ``takes_sigma`` (whether it needs a noise level) and
``receptive_field``. Networks that are published for images of blue, green, red list their
``image_layers``.
"""

import importlib.util

if importlib.util.find_spec("flax") is None:
    raise ImportError("lumloss_jax.models needs Flax: pip install flax")

from lumloss_jax.models._buifd import BUIFD
from lumloss_jax.models._cidnet import CIDNet
from lumloss_jax.models._create import create_model, variable_shapes
from lumloss_jax.models._dists import dists, dists_weights
from lumloss_jax.models._dncnn import DnCNN
from lumloss_jax.models._drunet import DRUNet
from lumloss_jax.models._fold_batch_norm import fold_batch_norm
from lumloss_jax.models._lpips import lpips, lpips_layers, lpips_weights
from lumloss_jax.models._nafnet import NAFNet
from lumloss_jax.models._presets import PRESETS, Preset
from lumloss_jax.models._receptive_field import ReceptiveField
from lumloss_jax.models._retinexformer import Retinexformer
from lumloss_jax.models._torch_weights import from_torch_state_dict, to_torch_state_dict
from lumloss_jax.models._unet import UNet
from lumloss_jax.models._unet_dpir import DPIRUNet
from lumloss_jax.models._unet_scico import ScicoUNet

__all__ = [
    "BUIFD",
    "CIDNet",
    "DPIRUNet",
    "DRUNet",
    "DnCNN",
    "NAFNet",
    "PRESETS",
    "Preset",
    "ReceptiveField",
    "Retinexformer",
    "ScicoUNet",
    "UNet",
    "create_model",
    "dists",
    "dists_weights",
    "fold_batch_norm",
    "from_torch_state_dict",
    "lpips",
    "lpips_layers",
    "lpips_weights",
    "to_torch_state_dict",
    "variable_shapes",
]
