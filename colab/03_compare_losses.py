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
# **What it shows.** The same network trained under several losses, from the same seeds and on the
# same patches; a report that says which restores better, how sure that is, and where the results
# differ most.
#
# **Hardware.** CPU, GPU or TPU, whatever jax finds.
#
# **How long.** Allow an hour on two CPU cores: with the settings below (three losses, three seeds,
# a small DnCNN) it took 3,992 s on two that were busy with other work.

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

begin.install("compare")

# %% [markdown]
# ## Compare
#
# The first of `LOSSES` is compared with each of the others. A loss is text: a name, its options,
# sums of losses, for example `"luminance_l1(window_size=7)"`, `"0.8*ssim + 0.2*l1"`. Learning rate
# and clipping are picked for each on validation photographs; the test photographs are looked at
# once, at the end.
#
# The two packaged test photographs are too few for a verdict, and the report will say so: a verdict
# takes ten. Set `DATA = "folder:PATH"` to a folder of yours; a tenth of it is set aside for the
# test. Interrupted, run the cell again: it goes on. Other data or other losses are another
# comparison, in a folder of its own.

# %%
import shlex

import jax

DATA = "photos"
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
# One page, the same as `report.html` in the comparison's folder, which opens in any browser without
# a network.

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
# `scores.csv` has a row for each photograph, loss and seed, so that whoever doubts the statistics
# can make their own.

# %%
import csv

with (FOLDER / "scores.csv").open(newline="") as file:
    for row in csv.DictReader(file):
        numbers = {name: round(float(row[name]), 3) for name in ("psnr", "ssim", "ciede2000")}
        print(f"{row['loss']:24} seed {row['seed']}  {row['photograph']:12}", numbers)
