"""Losses and metrics that need larger images than those of their tables of properties."""

import functools

import jax.numpy as jnp


def enlarged(function):
    """The same of images, and of a mask, in which every pixel is repeated 2 x 2 times."""

    @functools.wraps(function)
    def of_enlarged(predictions, targets, *, mask=None, **options):
        def enlarge(image, axes):
            for axis in axes:
                if image.ndim >= -axis and image.shape[axis] > 1:  # a mask may broadcast
                    image = jnp.repeat(image, 2, axis)
            return image

        if options.get("crop_border"):
            options["crop_border"] *= 2
        mask = None if mask is None else enlarge(mask, (-2, -1))
        return function(
            enlarge(predictions, (-3, -2)), enlarge(targets, (-3, -2)), mask=mask, **options
        )

    return of_enlarged
