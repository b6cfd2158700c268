# ---
# jupyter:
#   accelerator: TPU
#   jupytext:
#     formats: ipynb,py:percent
#     notebook_metadata_filter: accelerator,kernelspec,jupytext,-jupytext.text_representation.jupytext_version
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Train a denoiser on TPU, GPU or CPU
#
# **What it shows.** This notebook is for you if you want to train a network on Colab or in Jupyter.
# It lists the devices, and trains DnCNN with the luminance L1 loss on one or all of them. It keeps
# checkpoints on Google Drive, and resumes from there if the runtime is lost. At the end it restores
# your own photograph.
#
# **Hardware.** A TPU or a GPU trains the published DnCNN (17 layers of 64 features), and a CPU
# trains a small one. Every cell is tested on CPU devices. The training step was compiled for TPUs,
# but nothing here has been run on one yet.
#
# **How long.** About five minutes on two CPU cores, three of them for training. There is no
# measurement for TPU and GPU. A progress bar shows how much time is left. If you stop the training,
# nothing is lost, as shown below.

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
# ## Which devices
#
# On Colab, choose Runtime, Change runtime type, and a TPU. Then run all cells from the first one.

# %%
import jax

KIND = jax.default_backend()
DEVICES = jax.device_count()  # number of devices that share each batch, from 1 to all
print(
    f"{jax.device_count()} {KIND} device(s): {', '.join(str(device) for device in jax.devices())}"
)
if KIND == "cpu":
    print("There is no TPU and no GPU here. A small network is trained, which takes minutes.")

# %% [markdown]
# ## Where checkpoints are kept
#
# A Colab runtime may end at any moment, and its disk is lost with it. The run itself stays on that
# disk, which is fast. Each finished checkpoint is copied to Drive as one archive.

# %%
from pathlib import Path

try:
    from google.colab import drive
except ImportError:
    MOUNT = Path("drive").resolve()  # not on Colab: this folder takes the place of Drive
else:
    drive.mount("/content/drive")
    MOUNT = Path("/content/drive/MyDrive/lumloss_jax")
print("checkpoints are copied to", MOUNT)

# %% [markdown]
# ## Train
#
# The training uses four photographs that scikit-image ships. Many more photographs make a better
# network. Put yours into a folder on Drive and set
# `DATA = "folder:/content/drive/MyDrive/photographs"`.
#
# After an interruption, run this cell again. If the runtime was lost, first run the cells above
# again. The training resumes from the newest checkpoint. If you change the data or the flags, a
# different run starts in its own folder.

# %%
import shlex

import drive_archives

DATA = "photos"
if begin.SMOKE:
    PRESET, FLAGS, EVERY = "smoke", "", 0.5
elif KIND == "cpu":
    PRESET, FLAGS, EVERY = "default", "--checkpoint-every 250", 30
else:
    PRESET, FLAGS, EVERY = (
        "dncnn",
        "--steps 20000 --checkpoint-every 1000 --validate-every 1000",
        30,
    )
COMMAND = f"fit {PRESET} --data {shlex.quote(DATA)} {FLAGS}"
RUN = begin.folder_for("denoiser", COMMAND)

CAN_RESUME = drive_archives.bring_back(RUN, MOUNT)
with drive_archives.copied(RUN, MOUNT, every=EVERY):
    begin.run(
        f"fit --resume {RUN} --devices {DEVICES}"
        if CAN_RESUME
        else f"{COMMAND} --devices {DEVICES} --out {RUN}"
    )

# %% [markdown]
# The network has now restored photographs that it was not trained on. The picture shows each one
# noisy, restored and clean, with a detail.

# %%
from IPython.display import display
from PIL import Image

display(Image.open(RUN / "comparison.png"))

# %% [markdown]
# ## Lost and resumed
#
# This cell shows how a lost run is resumed. It unpacks the archive before the last one, as on a new
# runtime, and resumes the run from there. At the end it compares the weights with those above. On
# the same machine, with the same devices and versions, they have the same bits. This is tested on
# CPU, and has not been tried on GPUs and TPUs. The displayed time is that of the steps between the
# two archives.

# %%
import shutil

import numpy as np

from train.checkpoints.checkpoint import load_network

AGAIN = Path("runs", "resumed")
shutil.rmtree(AGAIN, ignore_errors=True)
drive_archives.unpack(drive_archives.archives(RUN, MOUNT)[0], AGAIN)
begin.run(f"fit --resume {AGAIN} --devices {DEVICES}")

pairs = zip(*(jax.tree.leaves(load_network(folder).params) for folder in (RUN, AGAIN)), strict=True)
SAME = all(np.array_equal(a, b) for a, b in pairs)
print("the same bits as the unbroken run:", SAME)

# %% [markdown]
# ## Your photograph
#
# On Colab a button asks for a photograph. Elsewhere, set `PHOTOGRAPH` to a file. Without one, the
# cell adds noise to one of scikit-image's photographs.
#
# The network has learned to remove one kind of noise (Gaussian, sigma 25 of 255). If the noise is
# stronger, some of it remains. If it is weaker, the network removes detail too.

# %%
import skimage.data

from lumloss_jax.degradations import gaussian_noise
from train.data.images import to_uint8

PHOTOGRAPH = ""
PHOTOGRAPH = PHOTOGRAPH or begin.uploaded()
if not PHOTOGRAPH:
    PHOTOGRAPH = "coffee.png"
    pixels = skimage.data.coffee().astype(np.float32) / 255
    noisy = gaussian_noise(jax.random.key(0), pixels, sigma=25 / 255)
    Image.fromarray(to_uint8(np.asarray(noisy))).save(PHOTOGRAPH)

begin.run(f"restore {RUN} {shlex.quote(PHOTOGRAPH)} --output restored")

# %%
from PIL import ImageOps

# Phones store the pixels as the sensor saw them, and record separately which way is up.
before, after = (
    ImageOps.exif_transpose(Image.open(path)).convert("RGB")
    for path in (PHOTOGRAPH, Path("restored", Path(PHOTOGRAPH).name))
)
side = min(160, *before.size)
left, top = (before.width - side) // 2, (before.height - side) // 2
detail = (left, top, left + side, top + side)

width = 480
shown = Image.new(
    "RGB", (2 * width + 8, width * before.height // before.width + 8 + width), "white"
)
for i, image in enumerate((before, after)):
    x = i * (width + 8)
    shown.paste(
        image.resize((width, width * image.height // image.width), Image.Resampling.LANCZOS), (x, 0)
    )
    shown.paste(
        image.resize((width, width), Image.Resampling.NEAREST, box=detail),
        (x, shown.height - width),
    )
print("before and after, with a detail of the middle below")
display(shown)

# %% [markdown]
# The restored photograph is in the folder `restored`, under its own name, in its own format and
# size. Notebook 03 compares losses, and notebook 04 starts from weights that were trained with
# PyTorch.
