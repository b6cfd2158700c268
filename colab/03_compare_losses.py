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
# **What it shows.** The same network trained under several losses, from the same seeds and on the same patches; a
# report that says which restores better, how sure that is, and where the results differ most.
#
# **On what.** CPU, GPU or TPU, whatever jax finds.
#
# **How long.** With the settings below (three losses, three seeds, a small DnCNN) about half an hour on two CPU cores.

# %%
# The one thing to set on Colab: where the repository is, as `git clone` takes it, and which version of it.
REPOSITORY = ""
TAG = "v0.1.0"  # of a release; "main" is the newest
EXTRA = "study"  # what is installed of pyproject.toml

import os
import subprocess
import sys
from pathlib import Path

near = [Path(os.environ.get("LUMLOSS_CHECKOUT", "lumloss_jax")), Path.cwd(), *Path.cwd().parents]
ROOT = next((folder.resolve() for folder in near if (folder / "colab" / "install.py").is_file()), None)
if ROOT is None:  # not in a checkout
    if not REPOSITORY:
        raise SystemExit("Set REPOSITORY, at the top of this cell, to the address that you would git clone.")
    clone = ["git", "clone", "--quiet", "--depth=1", f"--branch={TAG}", REPOSITORY, "lumloss_jax"]
    got = subprocess.run(clone, capture_output=True, text=True)
    if got.returncode != 0:
        raise SystemExit(f"git could not fetch {TAG} of {REPOSITORY}; set the two anew. It says: {got.stderr.strip()}")
    ROOT = Path("lumloss_jax").resolve()
# Installs under constraints: jax, jaxlib, libtpu and numpy of this runtime stay as they are, or it says why it cannot.
done = subprocess.run([sys.executable, ROOT / "colab" / "install.py", EXTRA], capture_output=True, text=True)
print(done.stdout.strip())
if done.returncode != 0:
    raise SystemExit(done.stderr.strip())
sys.path[:0] = [str(ROOT), str(ROOT / "colab")]

SMOKE = os.environ.get("LUMLOSS_SMOKE") == "1"  # the whole way in seconds, as CI does it

# %% [markdown]
# ## Compare
#
# The first of `LOSSES` is compared with each of the others. A loss is text: a name, its options, sums of losses, for
# example `"luminance_l1(window_size=7)"`, `"0.84*ms_ssim + 0.16*l1"`. Learning rate and clipping are picked for each
# on validation photographs; the test photographs are looked at once, at the end.
#
# The two packaged test photographs are too few for a verdict, and the report will say so: with ten or more of yours,
# set `DATA = "folder:PATH"`. Interrupted, run the cell again: it goes on.

# %%
import shlex

import jax

from train.__main__ import main

DATA = "photos"
LOSSES = ["luminance_l1", "l1"] if SMOKE else ["luminance_l1", "mse", "l1"]
PRESET = "smoke" if SMOKE else "small"
FOLDER = Path("runs", f"comparison-{PRESET}")
print(f"{jax.device_count()} {jax.default_backend()} device(s)")


def run(command):
    """A command of this project in this process: the other way, `!python -m train`, cannot share a TPU with it."""
    print("python -m train", command)
    if main(shlex.split(command)) != 0:
        raise SystemExit("It did not go through; the reason is above.")


losses = " ".join(shlex.quote(loss) for loss in LOSSES)
run(f"compare {PRESET} --data {shlex.quote(DATA)} --losses {losses} --out {FOLDER}")

# %% [markdown]
# ## The report
#
# One page, the same as `report.html` in the comparison's folder, which opens in any browser without a network.

# %%
import html

from IPython.display import HTML

page = (FOLDER / "report.html").read_text()
frame = f'<iframe srcdoc="{html.escape(page)}" style="width: 100%; height: 1000px; border: 0"></iframe>'
HTML(f"<div>{frame}</div>")

# %% [markdown]
# ## The numbers
#
# `scores.csv` has a row for each photograph, loss and seed, so that whoever doubts the statistics can make their own.

# %%
import csv

with (FOLDER / "scores.csv").open(newline="") as file:
    for row in csv.DictReader(file):
        numbers = {name: round(float(row[name]), 3) for name in ("psnr", "ssim", "ciede2000")}
        print(f"{row['loss']:24} seed {row['seed']}  {row['photograph']:12}", numbers)
