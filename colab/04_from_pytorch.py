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
# **What it shows.** Weights of a network that was trained with PyTorch, as a `.pth` or
# `.safetensors` file, are brought here, fine-tuned with the luminance L1 loss, and written back for
# PyTorch. PyTorch itself is not needed.
#
# **Hardware.** CPU, GPU or TPU, whatever jax finds.
#
# **How long.** On two CPU cores a few minutes with the network that the notebook makes itself.

# %%
REPOSITORY = ""  # on Colab: the address that you would `git clone`; in a checkout it stays empty
TAG = "v0.1.0"  # a tag or a branch of it; where this tag is not there, "main"

import os
import subprocess
import sys

if REPOSITORY and not os.path.isdir("lumloss_jax"):
    clone = f"git -c advice.detachedHead=0 clone --quiet --depth=1 --branch={TAG} {REPOSITORY} lumloss_jax"
    subprocess.run(clone.split(), check=True)
sys.path[:0] = ["lumloss_jax/colab", "colab"]
import begin  # not found? No checkout is here: set REPOSITORY, above

begin.install("train")

# %% [markdown]
# ## The file
#
# On Colab a button asks for yours; elsewhere set `FILE`. Set `MODEL` to the network that it belongs
# to, with the fields that it was trained with: `docs/networks.md` says which published files are of
# which. For weights trained on blue, green, red (cv2) set `CHANNEL_ORDER = "bgr"`. Without a file
# the notebook makes one: a small DnCNN with random weights, under the names that PyTorch code gives
# them.

# %%
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from safetensors.numpy import save_file

from lumloss_jax.models import create_model, to_torch_state_dict
from train.torch_files import read_state_dict

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
    """Arrays by name, without what PyTorch adds: `module.` on several GPUs, and batch norm's counters."""
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
# Tensors are read, renamed and checked one by one; nothing in the file is executed. What comes out
# is a checkpoint that every command takes.

# %%
import shlex
import shutil

IMPORTED, TUNED = Path("runs", "imported"), Path("runs", "tuned")
for folder in (IMPORTED, TUNED):
    shutil.rmtree(folder, ignore_errors=True)  # of this notebook's run before

begin.run(
    f'import {shlex.quote(FILE)} --model "{MODEL}" --channel-order {CHANNEL_ORDER} --out {IMPORTED}'
)

# %% [markdown]
# ## Fine-tune
#
# `--init-from` starts from these weights with a fresh optimizer. Weights that are good already take
# a learning rate ten times lower than fresh ones. Set `DATA = "folder:PATH"` to train on your
# photographs.

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
# A state dict under the names of the network's own PyTorch code, for
# `model.load_state_dict(safetensors.torch.load_file("tuned.safetensors"))`. (With channel order
# "bgr" the exported weights take red, green, blue, so that the first and last layer differ by that
# too.)

# %%
begin.run(f"export {TUNED} --format torch --output tuned.safetensors")

tuned = weights_of("tuned.safetensors")
SAME = {name: array.shape for name, array in tuned.items()} == {
    name: array.shape for name, array in given.items()
}
print("the same names and shapes as came in:", SAME)
for name, array in tuned.items():
    if name in given and array.ndim == 4:
        print(f"{name:32} moved by {np.abs(array - given[name]).max():.4f} at most")
