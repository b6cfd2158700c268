"""``python -m train import``: weights trained with PyTorch become a checkpoint that every other verb loads."""

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import jax
import tyro

from lumloss_jax.models import from_torch_state_dict
from train.channel_order import reverse_channels
from train.checkpoint import Network, save_network
from train.checkpoint_files import check_path
from train.console import make_console
from train.errors import InputError
from train.network import build_model, parse_model
from train.torch_files import read_state_dict


@dataclass(frozen=True)
class ImportConfig:
    """Bring weights trained with PyTorch here; PyTorch itself is not needed, and nothing in the file is run."""

    file: Annotated[Path, tyro.conf.Positional]
    """File of weights: .pth, .pt, .ckpt, .safetensors or .npz."""
    model: str
    """Network that they belong to, with the fields it was trained with, e.g. "dncnn(depth=20)"."""
    out: Path | None = None
    """Folder of the checkpoint to write; it must not exist. None: the file's name under runs/imported/."""
    channel_order: Literal["rgb", "bgr"] = "rgb"
    """Order of colours that the network was trained on. Of "bgr" weights are turned about, and it then takes "rgb"."""


def import_weights(config: ImportConfig) -> Path:
    """Reads, renames, checks every shape, writes; gives the checkpoint's folder."""
    out = config.out or Path("runs", "imported", config.file.stem)
    check_path(out)
    if os.path.lexists(out):
        raise InputError(f"--out {out} exists already: remove it, or write elsewhere.")
    name, fields = parse_model(config.model)
    model = build_model(config.model)
    found = read_state_dict(config.file)
    try:
        variables = from_torch_state_dict(name, found.arrays, **fields)
    except ValueError as error:
        raise InputError(f'{config.file} does not fit --model "{config.model}": {error}') from None
    if config.channel_order == "bgr":
        variables = reverse_channels(model, variables)
    params, batch_stats = variables["params"], variables.get("batch_stats", {})
    about = {
        "imported_from": config.file.name,
        "sha256": hashlib.sha256(config.file.read_bytes()).hexdigest(),
        "found_under": list(found.where),
        "channel_order": config.channel_order,
    }
    out.parent.mkdir(parents=True, exist_ok=True)
    save_network(out, Network(model, config.model, params, batch_stats), about)
    console = make_console(soft_wrap=True)
    under = f' under "{".".join(found.where)}"' if found.where else ""
    count = sum(leaf.size for leaf in jax.tree.leaves(params))
    console.print(f"{config.file}{under}: {len(found.arrays)} arrays, {count:,} parameters of {config.model}")
    console.print(f"checkpoint  {out}")
    console.print(f'fine-tune it with: python -m train fit --model "{config.model}" --init-from {out}')
    return out
