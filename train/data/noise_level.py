"""Estimates the noise in a photograph from the photograph alone."""

import warnings

import numpy as np
import skimage  # Its parts are imported when they are first used.


def noise_level(image: np.ndarray) -> float:
    """Estimates the standard deviation of an image's noise from its finest wavelets.

    The image is ``[H, W, C]``, and the result is in its units. It is the mean over the channels.
    Flat channels, such as blue at night, say nothing about noise and are left out. If no channel
    is left, the result is 0.
    """
    channels = np.moveaxis(image, -1, 0)
    # Without any wavelet, the estimate is the median of an empty array: NaN with a warning.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        levels = [
            skimage.restoration.estimate_sigma(channel)
            for channel in channels
            if np.ptp(channel) > 0
        ]
    known = [level for level in levels if not np.isnan(level)]
    return float(np.mean(known)) if known else 0.0
