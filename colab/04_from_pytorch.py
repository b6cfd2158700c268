# ---
# jupyter:
#   accelerator: GPU
#   jupytext:
#     formats: ipynb,py:percent
#     notebook_metadata_filter: accelerator,kernelspec,jupytext,-jupytext.text_representation.jupytext_version
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # From PyTorch and back
#
# **What it shows.** This notebook is for you if you have a network that was trained with PyTorch,
# as a `.pth` or `.safetensors` file. It imports the weights, fine-tunes them with the luminance L1
# loss, and writes them back for PyTorch. You do not need PyTorch itself.
#
# **Hardware.** CPU, GPU or TPU, whichever jax finds.
#
# **How long.** A few minutes on two CPU cores, with the network that the notebook makes itself.

# %%
REPOSITORY = ""  # on Colab: the address for `git clone`; in a checkout, leave it empty
TAG = "v0.1.0"  # a tag or a branch of REPOSITORY; use "main" if this tag does not exist

import os
import subprocess
import sys

if REPOSITORY and not os.path.isdir("lumloss_jax"):
    clone = f"git -c advice.detachedHead=0 clone --quiet --depth=1 --branch={TAG} {REPOSITORY} lumloss_jax"
    subprocess.run(clone.split(), check=True)
sys.path[:0] = ["lumloss_jax/colab", "colab"]
import begin  # not found? There is no checkout here: set REPOSITORY above

begin.install("train")

# %% [markdown]
# ## The file
#
# On Colab a button asks for your file. Elsewhere, set `FILE`. Without a file, the notebook makes
# one: a small DnCNN with random weights, under the names that PyTorch code gives them.
#
# - Set `MODEL` to the network that the file belongs to, with the fields that it was trained with.
#   `docs/networks.md` says which published files belong to which network.
# - If the network was trained on blue, green, red (cv2), set `CHANNEL_ORDER = "bgr"`.

# %%
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from safetensors.numpy import save_file

from lumloss_jax.models import create_model, to_torch_state_dict
from train.pytorch.torch_files import read_state_dict

FILE = ""
MODEL = "dncnn(depth=3, features=8)" if begin.SMOKE else "dncnn(depth=8, features=32)"
CHANNEL_ORDER = "rgb"

FILE = FILE or begin.uploaded()
TRAINED = bool(FILE)
if not TRAINED:
    FILE = "from_pytorch.safetensors"
    fields = {"depth": 3, "features": 8} if begin.SMOKE else {"depth": 8, "features": 32}
    variables = jax.jit(create_model("dncnn", **fields).init)(
        jax.random.key(0), jnp.zeros((1, 8, 8, 3))
    )
    save_file(to_torch_state_dict("dncnn", variables, **fields), FILE)


def weights_of(file):
    """Arrays by name, without PyTorch's `module.` (several GPUs) and batch norm counters."""
    arrays = read_state_dict(Path(file)).arrays
    return {
        name.removeprefix("module."): array
        for name, array in arrays.items()
        if "num_batches" not in name
    }


given = weights_of(FILE)
for name, array in given.items():
    print(f"{name:32} {array.shape}")

# %% [markdown]
# ## Import
#
# Tensors are read, renamed and checked one by one, and nothing in the file is executed. The result
# is a checkpoint that every command accepts.

# %%
import shlex
import shutil

IMPORTED, TUNED = Path("runs", "imported"), Path("runs", "tuned")
for folder in (IMPORTED, TUNED):
    shutil.rmtree(folder, ignore_errors=True)  # left by an earlier run of this notebook

begin.run(
    f'import {shlex.quote(FILE)} --model "{MODEL}" --channel-order {CHANNEL_ORDER} --out {IMPORTED}'
)

# %% [markdown]
# ## Fine-tune
#
# `--init-from` starts from these weights with a fresh optimizer. Weights that are already good need
# a learning rate ten times lower than random ones. To train on your photographs, set
# `DATA = "folder:PATH"`.

# %%
DATA = "photos"
RATE = 2e-4 if TRAINED else 2e-3
PRESET, FLAGS = ("smoke", "") if begin.SMOKE else ("default", "--steps 500")
FLAGS += f" --data {shlex.quote(DATA)} --learning-rate {RATE}"
begin.run(
    f'fit {PRESET} --init-from {IMPORTED} --model "{MODEL}" --loss luminance_l1 --out {TUNED} {FLAGS}'
)

# %%
from IPython.display import display
from PIL import Image

display(Image.open(TUNED / "comparison.png"))

# %% [markdown]
# ## Export
#
# This cell writes a state dict under the names of the network's own PyTorch code. Load it in
# PyTorch with `model.load_state_dict(safetensors.torch.load_file("tuned.safetensors"))`.
#
# With channel order "bgr", the exported weights expect red, green, blue, so the first and the last
# layer also differ by this change of order.

# %%
begin.run(f"export {TUNED} --format torch --output tuned.safetensors")

tuned = weights_of("tuned.safetensors")
SAME = {name: array.shape for name, array in tuned.items()} == {
    name: array.shape for name, array in given.items()
}
print("the same names and shapes as in the imported file:", SAME)
for name, array in tuned.items():
    if name in given and array.ndim == 4:
        print(f"{name:32} moved by {np.abs(array - given[name]).max():.4f} at most")
