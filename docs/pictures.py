"""Draws the figures of the page on the loss while the site is built.

Their photograph is one that scikit-image ships.
"""

import functools
from collections.abc import Callable, Mapping, Sequence

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

from lumloss_jax import color, luminance_l1_loss
from lumloss_jax.losses import charbonnier_loss, huber_loss, l1_loss, luminance_l1_terms, mse_loss

plt.rcParams.update(
    {
        # One picture serves light and dark pages: its background is transparent, and its ink is
        # readable on both.
        "figure.facecolor": "none",
        "axes.facecolor": "none",
        "savefig.facecolor": "none",
        "legend.facecolor": "none",
        "legend.edgecolor": "none",
        **dict.fromkeys(
            ["text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color"],
            "#787d85",
        ),
        "axes.prop_cycle": plt.cycler(color=["#3a7bd5", "#d9622b", "#2f9e63", "#9a5fc4"]),
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.titlesize": 10,
        "font.size": 9.5,
        "figure.dpi": 110,
        "figure.constrained_layout.use": True,
    }
)


def panels(
    images: Mapping[str, np.ndarray], *, columns: int, height: float, scale: float | None = None
) -> Figure:
    """Draws images side by side.

    With a scale, the images are signed maps of a single channel: purple below 0, orange above 0,
    and white at 0.
    """
    rows = -(-len(images) // columns)
    figure, axes = plt.subplots(rows, columns, figsize=(7.4, height * rows), squeeze=False)
    for axis in axes.flat:
        axis.set_axis_off()
    for axis, (title, image) in zip(axes.flat, images.items(), strict=False):
        image = np.asarray(image)
        if scale is None:
            axis.imshow(np.clip(image, 0, 1), interpolation="nearest")
        else:
            axis.imshow(
                image[..., 0], cmap="PuOr_r", vmin=-scale, vmax=scale, interpolation="nearest"
            )
        axis.set_title(title)
    return figure


def window_curves(
    differences: Mapping[str, jax.Array], clean: jax.Array, windows: Sequence[int]
) -> Figure:
    """Draws the brightness term of each difference against the window size."""
    figure, axis = plt.subplots(figsize=(5.2, 2.6))
    stacked = jnp.stack(list(differences.values()))

    @functools.partial(jax.jit, static_argnums=0)
    def terms(size: int) -> jax.Array:
        return jax.vmap(lambda d: luminance_l1_terms(clean + d, clean, window_size=size).luminance)(
            stacked
        )

    for name, values in zip(
        differences, np.stack([terms(size) for size in windows], axis=1), strict=True
    ):
        axis.plot(windows, values, marker="o", markersize=3, label=name)
    axis.set(
        xlabel="window_size in pixels",
        ylabel="brightness term B",
        xticks=windows,
        ylim=(-0.002, None),
    )
    axis.legend(loc="center right", bbox_to_anchor=(1.0, 0.62))
    return figure


def penalty_curves() -> Figure:
    """Draws the penalties and their slopes, as the library computes them."""
    penalties: dict[str, Callable] = {
        "l1": l1_loss,
        "l2": mse_loss,
        "charbonnier, epsilon 0.02": lambda p, t: charbonnier_loss(p, t, epsilon=0.02),
        "huber, delta 0.05": lambda p, t: huber_loss(p, t, delta=0.05),
    }
    errors = jnp.linspace(-0.15, 0.15, 301)
    figure, (left, right) = plt.subplots(1, 2, figsize=(7.4, 2.6))
    for name, penalty in penalties.items():

        def of(error: jax.Array, penalty: Callable = penalty) -> jax.Array:
            return penalty(error.reshape(1, 1, 1), jnp.zeros((1, 1, 1)))

        left.plot(errors, jax.jit(jax.vmap(of))(errors), label=name)
        right.plot(errors, jax.jit(jax.vmap(jax.grad(of)))(errors), label=name)
    left.set(title="penalty", xlabel="difference")
    right.set(title="slope of the penalty", xlabel="difference")
    left.legend(fontsize=8)
    return figure


def brightness_curves() -> Figure:
    """Draws the brightness of greys under the three signals, and how much a step counts there."""
    greys = jnp.linspace(0, 1, 201)
    images = greys[:, None, None, None] * jnp.ones((1, 1, 3))
    signals = {
        "luma": color.rgb_to_luma,
        "luminance": color.rgb_to_luminance,
        "lightness": color.rgb_to_lightness,
    }
    figure, (left, right) = plt.subplots(1, 2, figsize=(7.4, 2.6))
    for name, signal in signals.items():

        def counts(image: jax.Array, name: str = name) -> jax.Array:
            return luminance_l1_terms(image + 0.05, image, brightness=name).luminance

        left.plot(greys, signal(images).ravel(), label=name)
        right.plot(greys, jax.jit(jax.vmap(counts))(images), label=name)
    left.set(title="brightness of a grey", xlabel="grey value")
    right.set(title="B if the grey is 0.05 too bright", xlabel="grey value", ylim=(0, None))
    left.legend()
    return figure


def gradient_maps(
    predictions: jax.Array, targets: jax.Array, options: Mapping[str, Mapping]
) -> dict[str, np.ndarray]:
    """Shows where each loss would move every pixel and channel.

    Grey means that the pixel should stay. A channel above grey should become brighter, and one
    below grey darker.
    """
    maps = {}
    for title, chosen in options.items():
        loss = functools.partial(luminance_l1_loss, **chosen)
        gradient = np.asarray(jax.jit(jax.grad(loss))(predictions, targets))
        maps[title] = 0.5 - 0.5 * gradient / np.abs(gradient).max()
    return maps
