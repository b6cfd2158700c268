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
# # Which loss is better on your photographs?
#
# **What it shows.** This notebook is for you if you want to know which loss restores your
# photographs better. It fine-tunes the same network with each of several losses, from the same seeds
# and on the same patches. Its report says which loss is better, how certain that is, and where the
# results differ most.
#
# **Hardware.** CPU, GPU or TPU, whichever jax finds.
#
# **How long.** The settings below (three losses, three seeds) fine-tune the bundled network twelve
# times, for 400 updates each.

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

begin.install("compare")

# %% [markdown]
# ## Compare
#
# The first of `LOSSES` is compared with each of the others. Write a loss as text: a name, its
# options, or a sum of losses, for example `"luminance_l1(window_size=7)"` or `"0.8*ssim + 0.2*l1"`.
# A learning rate is picked for each loss on validation photographs. The test
# photographs are used only once, at the end.
#
# `samples` tests on eight pictures, the fewest that a verdict needs. Set `DATA = "folder:PATH"` to a
# folder of yours. About a tenth of its photographs is held out for the test, so give it 150 or more.
#
# After an interruption, run the cell again, and the comparison continues. If you change the data or
# the losses, a different comparison starts in its own folder.

# %%
import shlex

import jax

DATA = "samples"
LOSSES = ["luminance_l1", "l1"] if begin.SMOKE else ["luminance_l1", "mse", "l1"]
PRESET = "smoke" if begin.SMOKE else "small"
print(f"{jax.device_count()} {jax.default_backend()} device(s)")

losses = " ".join(shlex.quote(loss) for loss in LOSSES)
COMMAND = f"compare {PRESET} --data {shlex.quote(DATA)} --losses {losses}"
FOLDER = begin.folder_for("comparison", COMMAND)
begin.run(f"{COMMAND} --out {FOLDER}")

# %% [markdown]
# ## The report
#
# This page is also saved as `report.html` in the comparison's folder. It opens in any browser, also
# without an internet connection.

# %%
import html

from IPython.display import HTML

page = (FOLDER / "report.html").read_text()
frame = (
    f'<iframe srcdoc="{html.escape(page)}" style="width: 100%; height: 1000px; border: 0"></iframe>'
)
HTML(f"<div>{frame}</div>")

# %% [markdown]
# ## The numbers
#
# `scores.csv` has a row for each photograph, loss and seed. If you want different statistics, you
# can compute your own from it.

# %%
import csv

with (FOLDER / "scores.csv").open(newline="") as file:
    for row in csv.DictReader(file):
        numbers = {name: round(float(row[name]), 3) for name in ("psnr", "ssim", "ciede2000")}
        print(f"{row['loss']:24} seed {row['seed']}  {row['photograph']:12}", numbers)
