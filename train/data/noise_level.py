"""How much noise a photograph holds, told from itself."""

import warnings

import numpy as np
from skimage.restoration import estimate_sigma


def noise_level(image: np.ndarray) -> float:
    """Estimates the standard deviation of an image's noise from its finest wavelets.

    The image is ``[H, W, C]``, and the result is in its units.

    It is the mean over channels, except flat ones, such as the blue of a night: they say
    nothing about noise. 0 where none is left.
    """
    channels = np.moveaxis(image, -1, 0)
    # Where no wavelet is left it takes the median of nothing, and gives NaN
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        levels = [estimate_sigma(channel) for channel in channels if np.ptp(channel) > 0]
    known = [level for level in levels if not np.isnan(level)]
    return float(np.mean(known)) if known else 0.0
