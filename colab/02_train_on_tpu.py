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
# **What it shows.** The whole way: which devices there are, training DnCNN with the luminance L1
# loss on one or all of them, checkpoints on Google Drive and going on from them after the runtime
# was lost, and your own photograph restored.
#
# **Hardware.** A TPU or a GPU trains the published DnCNN (17 layers of 64 features), a CPU a small
# one. Every cell is tested on CPU devices; the training step was compiled for TPUs, but nothing
# here has been run on one yet.
#
# **How long.** On two CPU cores about five minutes, three of them training. For TPU and GPU there
# is no measurement; a progress bar says how long is left, and nothing is lost by stopping, see
# below.

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
# ## Which devices
#
# On Colab: Runtime, Change runtime type, and a TPU; then run all cells from the first.

# %%
import jax

KIND = jax.default_backend()
DEVICES = jax.device_count()  # that share each batch; any number from 1 to all
print(
    f"{jax.device_count()} {KIND} device(s): {', '.join(str(device) for device in jax.devices())}"
)
if KIND == "cpu":
    print("No TPU and no GPU here: a small network is trained, which takes minutes.")

# %% [markdown]
# ## Where checkpoints are kept
#
# A Colab runtime may end at any moment, and its disk with it. The run itself stays on that disk,
# which is fast; each finished checkpoint is copied to Drive as one archive.

# %%
from pathlib import Path

try:
    from google.colab import drive
except ImportError:
    MOUNT = Path("drive").resolve()  # not on Colab: a folder stands for Drive
else:
    drive.mount("/content/drive")
    MOUNT = Path("/content/drive/MyDrive/lumloss_jax")
print("checkpoints are copied to", MOUNT)

# %% [markdown]
# ## Train
#
# The photographs are four that scikit-image ships; many more make a better network. Put yours into
# a folder on Drive and set `DATA = "folder:/content/drive/MyDrive/photographs"`.
#
# Run this cell again after an interruption, or after the runtime was lost and the cells above have
# run anew: it goes on from the newest checkpoint. Other data or other flags are another run, in a
# folder of its own.

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

GOES_ON = drive_archives.bring_back(RUN, MOUNT)
with drive_archives.copied(RUN, MOUNT, every=EVERY):
    begin.run(
        f"fit --resume {RUN} --devices {DEVICES}"
        if GOES_ON
        else f"{COMMAND} --devices {DEVICES} --out {RUN}"
    )

# %% [markdown]
# Its results on photographs that it was not trained on: noisy, restored, clean, each with a detail.

# %%
from IPython.display import display
from PIL import Image

display(Image.open(RUN / "comparison.png"))

# %% [markdown]
# ## Lost and resumed
#
# To see it happen: the archive before the last is unpacked, as on a new runtime, and the run goes
# on from there. At its end the weights are compared with those above. On the same machine with the
# same devices and versions they are the same bits; that is tested on CPU, and on GPUs and TPUs it
# has not been tried. (The time is that of the steps between the two archives.)

# %%
import shutil

import numpy as np

from train.checkpoint import load_network

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
# On Colab a button asks for one; elsewhere set `PHOTOGRAPH` to a file. Without one, a packaged
# photograph is made noisy. The network has learned one kind of noise (Gaussian, sigma 25 of 255):
# it leaves some of stronger noise, and takes detail away where there is less.

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

# Phones store pixels as the sensor saw them and, apart from them, which way is up.
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
print("before, after; below, a detail of the middle")
display(shown)

# %% [markdown]
# The restored photograph lies in the folder `restored` under its own name, in its own format and
# size. Notebook 03 compares losses, and 04 starts from weights that were trained with PyTorch.
