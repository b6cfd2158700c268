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
# # The luminance L1 loss in your own pipeline
#
# **What it shows.** This notebook is for you if you have a training step in JAX and want to try the
# loss in it. It draws what the two terms measure, and what the window and the weights change. Then
# it shows the one line that uses the loss in a Flax NNX model, a Linen model, a `pmap` loop and an
# Equinox model.
#
# **Hardware.** CPU, GPU or TPU, whichever jax finds. A few small networks are trained briefly.
#
# **How long.** About a minute, plus the installation.

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

begin.install("notebooks")

# %% [markdown]
# ## What it measures
#
# $$ L \;=\; w_l\, \underbrace{\mathrm{mean}\; \big| G_s(y(P) - y(T)) \big|}_{B,\ \text{brightness}}
#     \;+\; w_c\, \underbrace{\mathrm{mean}\; |P - T|}_{K,\ \text{colour}} $$
#
# $P$ is the restored image and $T$ the clean one. $y$ is the brightness of a pixel. $G_s$ is an
# average over a window of $s$ x $s$ pixels, and for $s = 1$ there is no window.
#
# K is plain L1. B asks a question that L1 does not ask: is this pixel, or this neighbourhood, as
# bright as it should be, whatever its colour?

# %%
from functools import partial

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
from skimage.data import chelsea

from lumloss_jax import luminance_l1_loss
from lumloss_jax.color import rgb_to_luma
from lumloss_jax.losses import luminance_l1_terms

print(jax.device_count(), jax.default_backend(), "device(s)")
clean = jnp.asarray(chelsea()[40:240, 90:290] / 255, jnp.float32)  # [200, 200, 3], in [0, 1]

luminance_l1_loss(clean + 0.1, clean)  # too bright by 0.1, so B, K and the loss are 0.1

# %% [markdown]
# Three images have the same error in plain L1, 0.06. The first is wrong only in brightness, the
# second only in colour, and the third is noisy.

# %%
AMOUNT = 0.06

# A change of colour without a change of brightness: red goes up, and green goes down by the amount
# that leaves luma, 0.299 r + 0.587 g + 0.114 b, unchanged.
tint = np.array([1.0, -0.299 / 0.587, 0.0])
tint = jnp.asarray(tint / np.abs(tint).mean(), jnp.float32)
noise = jax.random.normal(jax.random.key(0), clean.shape)
wrong = {
    "brightness": clean + AMOUNT,
    "colour": clean + AMOUNT * tint,
    "noise": clean + AMOUNT * noise / jnp.abs(noise).mean(),
}


def box_of_7(values):
    """The mean over 7 x 7 pixels, as the loss computes it for window_size=7.

    At a border the mean is over the pixels that exist.
    """
    sums = partial(jax.scipy.signal.convolve, in2=jnp.ones((7, 7)), mode="same")
    return sums(values) / sums(jnp.ones_like(values))


figure, axes = plt.subplots(3, 4, figsize=(12, 9.6), layout="constrained")
for row, (name, image) in zip(axes, wrong.items(), strict=True):
    B, K = luminance_l1_terms(image, clean)
    windowed = luminance_l1_terms(image, clean, window_size=7)
    off = image - clean
    row[0].imshow(jnp.clip(image, 0, 1))
    row[0].set_ylabel(f"only {name}", fontsize=13)
    maps = {
        f"|P - T|, mean K = {K:.3f}": jnp.abs(off).mean(-1),
        f"|y(P) - y(T)|, mean B = {B:.3f}": jnp.abs(rgb_to_luma(off))[..., 0],
        f"the same, window 7, B = {windowed.luminance:.3f}": jnp.abs(
            box_of_7(rgb_to_luma(off)[..., 0])
        ),
    }
    for axis, (title, values) in zip(row[1:], maps.items(), strict=True):
        shown = axis.imshow(values, vmin=0, vmax=3 * AMOUNT, cmap="magma")
        axis.set_title(title, fontsize=11)
    for axis in row:
        axis.set(xticks=[], yticks=[])
figure.colorbar(shown, ax=axes, shrink=0.5, label="error")
plt.show()

# %% [markdown]
# L1 cannot tell the three apart. B measures the brightness error in full, and does not see the
# colour error at all. It sees a part of the noise, because the errors of the three channels are
# independent and partly cancel. Averaged over a window, noise cancels much more. What remains is
# whether the neighbourhood is as bright as it should be.
#
# ## The window

# %%
sizes = [1, 3, 5, 7, 11, 15, 21]
figure, (left, right) = plt.subplots(1, 2, figsize=(11, 3.6), layout="constrained")
for name, image in wrong.items():
    left.plot(
        sizes,
        [luminance_l1_terms(image, clean, window_size=size).luminance for size in sizes],
        "o-",
        label=name,
    )
left.set(xlabel="window_size", ylabel="B", title="Brightness error of the three images")
left.legend()

# How far the window reaches: the gradient of B if one pixel is too bright.
dot = jnp.zeros((25, 25, 3)).at[12, 12].set(1.0)
reach = [
    jax.grad(
        lambda image, kind=kind: luminance_l1_terms(image, jnp.zeros_like(image), **kind).luminance
    )(dot)[..., 1]
    for kind in ({"window_size": 1}, {"window_size": 11}, {"window_size": 11, "window": "gaussian"})
]
right.imshow(jnp.concatenate([each / each.max() for each in reach], axis=1), cmap="magma")
right.set(xticks=[12, 37, 62], xticklabels=["none", "box 11", "gaussian 11"], yticks=[])
right.set_title("One pixel is too bright: the pixels that B lowers")
plt.show()

# %% [markdown]
# ## The weights
#
# The weights decide where a pixel is pushed. Here a pixel is too red and should be grey. Each plot
# shows its path under gradient descent for one weighting, and the square shows the colour that it
# ends with. With brightness alone, the pixel stops at the first colour that is as bright as the
# target, so the colour term is needed.

# %%
target = jnp.array([0.45, 0.45, 0.45]).reshape(1, 1, 3)
start = jnp.array([0.85, 0.35, 0.30]).reshape(1, 1, 3)


def descend(pixel, luminance_weight):
    """The path of the pixel under gradient descent with a weighting."""
    slope = jax.jit(jax.grad(luminance_l1_loss))
    weights = {"luminance_weight": luminance_weight, "color_weight": 1 - luminance_weight}
    path = [pixel]
    for _ in range(150):
        pixel = pixel - 0.01 * slope(pixel, target, **weights)
        path.append(pixel)
    return jnp.stack(path)


figure, axes = plt.subplots(1, 4, figsize=(12, 2.9), layout="constrained")
for axis, weight in zip(axes, (0.0, 0.5, 0.8, 1.0), strict=True):
    path = descend(start, weight)[:, 0, 0]
    for values, shade in zip(path.T, ("tab:red", "tab:green", "tab:blue"), strict=True):
        axis.plot(values, color=shade)
    axis.plot(rgb_to_luma(path[:, None])[:, 0, 0], color="black", linestyle="--")
    axis.axhline(0.45, color="grey", linewidth=0.5)
    axis.set(title=f"{weight:g} B + {1 - weight:g} K", xlabel="step", ylim=(0.2, 0.9))
    axis.add_patch(plt.Rectangle((100, 0.68), 45, 0.18, color=tuple(np.asarray(path[-1]))))
axes[0].set_ylabel("red, green, blue; brightness dashed")
plt.show()

# %% [markdown]
# ## Into your own pipeline
#
# Below, the same patches, the same small network and Adam are written in four ways. In each, the
# loss is one line, and the old line stands above it as a comment. All of them train on `training`.

# %%
import optax

STEPS = 60 if begin.SMOKE else 200


def patches(count=16, side=32):
    """Patches with noise of sigma 25, and the same patches clean."""
    corners = np.random.default_rng(0).integers(0, 200 - side, (count, 2))
    cut = jnp.stack([clean[y : y + side, x : x + side] for y, x in corners])
    return cut + 25 / 255 * jax.random.normal(jax.random.key(1), cut.shape), cut


training = patches()  # noisy, clean: [16, 32, 32, 3] each
curves = {}

# %% [markdown]
# ### Flax NNX

# %%
from flax import nnx


class Denoiser(nnx.Module):
    """Two convolutions that predict the noise."""

    def __init__(self, rngs):
        self.first = nnx.Conv(3, 16, (3, 3), rngs=rngs)
        self.last = nnx.Conv(16, 3, (3, 3), rngs=rngs)

    def __call__(self, noisy):
        return noisy - self.last(nnx.relu(self.first(noisy)))


@nnx.jit
def nnx_step(model, optimizer, noisy, clean):
    """One update."""

    def objective(model):
        # return jnp.mean((model(noisy) - clean) ** 2)
        return luminance_l1_loss(model(noisy), clean)

    loss, gradients = nnx.value_and_grad(objective)(model)
    optimizer.update(model, gradients)
    return loss


def train_nnx(model):
    """Trains the model and returns the loss of every step."""
    optimizer = nnx.Optimizer(model, optax.adam(3e-3), wrt=nnx.Param)
    return [nnx_step(model, optimizer, *training) for _ in range(STEPS)]


curves["NNX"] = train_nnx(Denoiser(nnx.Rngs(0)))

# %% [markdown]
# The networks of this library are Linen modules. `nnx.bridge.ToNNX` turns any of them into an NNX
# module, and nothing else changes:

# %%
from lumloss_jax.models import create_model

dncnn = create_model("dncnn", depth=3, features=16, batch_norm=False)
curves["NNX, DnCNN by ToNNX"] = train_nnx(
    nnx.bridge.ToNNX(dncnn, rngs=nnx.Rngs(0)).lazy_init(training[0])
)

# %% [markdown]
# ### Flax Linen

# %%
import flax.linen as nn


class LinenDenoiser(nn.Module):
    """Two convolutions that predict the noise."""

    @nn.compact
    def __call__(self, noisy):
        return noisy - nn.Conv(3, (3, 3))(nn.relu(nn.Conv(16, (3, 3))(noisy)))


linen = LinenDenoiser()
adam = optax.adam(3e-3)


@jax.jit
def linen_step(params, state, noisy, clean):
    """One update."""

    def objective(params):
        # return jnp.mean((linen.apply(params, noisy) - clean) ** 2)
        return luminance_l1_loss(linen.apply(params, noisy), clean)

    loss, gradients = jax.value_and_grad(objective)(params)
    updates, state = adam.update(gradients, state)
    return optax.apply_updates(params, updates), state, loss


params = linen.init(jax.random.key(0), training[0])
state = adam.init(params)
curves["Linen"] = []
for _ in range(STEPS):
    params, state, loss = linen_step(params, state, *training)
    curves["Linen"].append(loss)

# %% [markdown]
# ### A plain `pmap` loop with a network written by hand
#
# Each device gets its share of the batch, and the gradients are averaged. With `axis_name`, the
# loss on every device is the loss of the whole batch.

# %%
DEVICES = jax.local_device_count()


def by_hand(params, noisy):
    """Two convolutions that predict the noise."""
    (first, first_bias), (last, last_bias) = params
    convolve = partial(
        jax.lax.conv_general_dilated,
        window_strides=(1, 1),
        padding="SAME",
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )
    return noisy - (convolve(jax.nn.relu(convolve(noisy, first) + first_bias), last) + last_bias)


@partial(jax.pmap, axis_name="devices")
def pmap_step(params, state, noisy, clean):
    """One update. Every argument has a leading axis over the devices."""

    def objective(params):
        # return jnp.mean((by_hand(params, noisy) - clean) ** 2)
        return luminance_l1_loss(by_hand(params, noisy), clean, axis_name="devices")

    loss, gradients = jax.value_and_grad(objective)(params)
    updates, state = adam.update(jax.lax.pmean(gradients, "devices"), state)
    return optax.apply_updates(params, updates), state, loss


keys = jax.random.split(jax.random.key(0))
params = [
    (
        jax.random.normal(key, (3, 3, *channels)) / np.sqrt(9 * channels[0]),
        jnp.zeros((1, 1, 1, channels[1])),
    )
    for key, channels in zip(keys, ((3, 16), (16, 3)), strict=True)
]
copies = jax.tree.map(lambda x: jnp.stack([x] * DEVICES), (params, adam.init(params)))
shares = [x.reshape(DEVICES, -1, *x.shape[1:]) for x in training]
curves[f"pmap, {DEVICES} device(s)"] = []
for _ in range(STEPS):
    *copies, loss = pmap_step(*copies, *shares)
    curves[f"pmap, {DEVICES} device(s)"].append(loss[0])

# %% [markdown]
# ### Equinox
#
# Equinox's convolutions expect a single image with channels first. The loss expects batches with
# channels last.

# %%
import equinox as eqx


class EquinoxDenoiser(eqx.Module):
    """Two convolutions that predict the noise."""

    layers: eqx.nn.Sequential

    def __init__(self, key):
        first, last = jax.random.split(key)
        self.layers = eqx.nn.Sequential(
            [
                eqx.nn.Conv2d(3, 16, 3, padding=1, key=first),
                eqx.nn.Lambda(jax.nn.relu),
                eqx.nn.Conv2d(16, 3, 3, padding=1, key=last),
            ]
        )

    def __call__(self, noisy):
        return noisy - jnp.moveaxis(self.layers(jnp.moveaxis(noisy, -1, 0)), 0, -1)


@eqx.filter_jit
def equinox_step(model, state, noisy, clean):
    """One update."""

    def objective(model):
        # return jnp.mean((jax.vmap(model)(noisy) - clean) ** 2)
        return luminance_l1_loss(jax.vmap(model)(noisy), clean)

    loss, gradients = eqx.filter_value_and_grad(objective)(model)
    updates, state = adam.update(gradients, state)
    return eqx.apply_updates(model, updates), state, loss


model = EquinoxDenoiser(jax.random.key(0))
state = adam.init(eqx.filter(model, eqx.is_array))
curves["Equinox"] = []
for _ in range(STEPS):
    model, state, loss = equinox_step(model, state, *training)
    curves["Equinox"].append(loss)

# %% [markdown]
# ### All of them learn

# %%
curves = {name: np.asarray(jax.device_get(losses)) for name, losses in curves.items()}
figure, axis = plt.subplots(figsize=(7, 3.6), layout="constrained")
for name, losses in curves.items():
    axis.plot(losses, label=name)
axis.axhline(luminance_l1_loss(*training), color="grey", linewidth=0.8, label="the noisy patches")
axis.set(xlabel="step", ylabel="luminance L1")
axis.legend()
plt.show()

for name, losses in curves.items():
    print(f"{name:22} {losses[0]:.4f} -> {losses[-1]:.4f}")
    assert losses[-1] < losses[0] / 2 or losses[-1] < 0.8 * float(luminance_l1_loss(*training)), (
        name
    )

# %% [markdown]
# ## More
#
# - `help(luminance_l1_loss)` describes every option: brightness as luma, luminance or CIE
#   lightness, different penalties, and masks.
# - Write sums of losses as text:
#   `lumloss_jax.losses.make_loss("luminance_l1(window_size=7) + 0.1*ssim")`.
# - Notebook 02 trains a whole network on all devices.
