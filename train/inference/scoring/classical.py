"""Classical denoisers of scikit-image, to compare networks with.

Each is told the noise level, and has one setting that depends on it: how strongly it smooths. The
best settings were measured on photographs that are not scored, and are listed here for a few noise
levels. Between these levels they are interpolated. So no setting is chosen on the photographs that
are scored, and the result for a photograph depends only on that photograph and its noise level.
"""

from collections.abc import Callable, Mapping
from importlib import metadata
from typing import Any, Literal, get_args

import numpy as np

BaselineName = Literal["gaussian", "nlm", "wavelet", "tv"]
BASELINES: tuple[BaselineName, ...] = get_args(BaselineName)

# Noise levels (0 to 255) that the settings were measured at. Beyond them the nearest one is used.
LEVELS = (5.0, 15.0, 25.0, 50.0, 75.0)
# The settings with the best mean PSNR, as `python benchmarks/baseline_settings.py CBSD432` printed
# them. "gaussian" has the width of the blur in pixels. The others have a multiple of the noise
# level: nlm its h, wavelet the level that it is told, tv its weight.
SETTINGS: Mapping[BaselineName, tuple[float, ...]] = {
    "gaussian": (0.40, 0.65, 0.90, 1.60, 2.25),
    "nlm": (0.70, 0.70, 0.60, 0.50, 0.50),
    "wavelet": (1.10, 1.00, 1.00, 1.00, 1.00),
    "tv": (0.50, 0.70, 0.80, 0.90, 1.00),
}
# What the settings mean, for the documentation of a table.
NOTE = (
    "gaussian, nlm, wavelet and tv are scikit-image's denoisers. They are told the noise level. "
    "Their settings for each level are those that scored best on other photographs."
)
_ITERATIONS = 200  # most steps of total variation
_WAVELET = "db2"
_LEVELS_OF_WAVELET = 5  # each has half the height and width of the one before


def denoise(name: BaselineName, noisy: np.ndarray, *, sigma: float) -> np.ndarray:
    """Removes noise of a known level with a classical method.

    Args:
      name: the method.
      noisy: the photograph, ``[H, W, C]``, in [0, 1] apart from its noise.
      sigma: noise level, 0 to 255.

    Returns:
      The restored photograph, float32, same shape, clipped to [0, 1].
    """
    setting = float(np.interp(sigma, LEVELS, SETTINGS[name]))
    return apply_setting(name, noisy, sigma=sigma, setting=setting)


def apply_setting(
    name: BaselineName, noisy: np.ndarray, *, sigma: float, setting: float
) -> np.ndarray:
    """Removes noise with a setting of your own; see :data:`SETTINGS`.

    Args:
      name: the method.
      noisy: the photograph, ``[H, W, C]``, in [0, 1] apart from its noise.
      sigma: noise level, 0 to 255.
      setting: how strongly to smooth.

    Returns:
      The restored photograph, float32, same shape, clipped to [0, 1].
    """
    if sigma == 0:  # There is nothing to remove, and nlm would divide by zero.
        return np.clip(noisy, 0, 1).astype(np.float32)
    restored = _METHODS[name](noisy.astype(np.float32), sigma / 255, setting)
    # Non-local means leave out the axis of a single channel.
    return np.clip(restored, 0, 1).astype(np.float32).reshape(noisy.shape)


def timed_record(seconds: Mapping[str, float]) -> dict[str, Any]:
    """What a summary of scores says about classical methods.

    Args:
      seconds: seconds per megapixel by method, also of the network; {}: no method was used.

    Returns:
      Their settings by noise level, the version of scikit-image, and the times.
    """
    if not seconds:
        return {}
    settings = {
        name: dict(zip(map(str, LEVELS), SETTINGS[name], strict=True))
        for name in BASELINES
        if name in seconds
    }
    return {
        "baselines": {"scikit-image": metadata.version("scikit-image"), **settings},
        "seconds_per_megapixel": dict(seconds),
    }


# scikit-image is imported when it is used, because the command line reads this file at its start.


def _gaussian(noisy: np.ndarray, sigma: float, setting: float) -> np.ndarray:
    from skimage import filters

    return filters.gaussian(noisy, sigma=setting, mode="reflect", channel_axis=-1)


def _nlm(noisy: np.ndarray, sigma: float, setting: float) -> np.ndarray:
    from skimage import restoration

    return restoration.denoise_nl_means(
        noisy,
        h=setting * sigma,
        sigma=sigma,
        patch_size=5,
        patch_distance=6,
        fast_mode=True,
        channel_axis=-1,
    )


def _wavelet(noisy: np.ndarray, sigma: float, setting: float) -> np.ndarray:
    import pywt
    from skimage import restoration

    # By default, scikit-image uses three levels fewer than fit, too few against strong noise.
    fitting = pywt.dwtn_max_level(noisy.shape[:2], _WAVELET)
    return restoration.denoise_wavelet(
        noisy,
        sigma=setting * sigma,
        wavelet=_WAVELET,
        wavelet_levels=max(1, min(_LEVELS_OF_WAVELET, fitting)),
        mode="soft",
        method="BayesShrink",
        convert2ycbcr=noisy.shape[-1] == 3,
        rescale_sigma=True,
        channel_axis=-1,
    )


def _tv(noisy: np.ndarray, sigma: float, setting: float) -> np.ndarray:
    from skimage import restoration

    return restoration.denoise_tv_chambolle(
        noisy, weight=setting * sigma, max_num_iter=_ITERATIONS, channel_axis=-1
    )


_METHODS: Mapping[str, Callable[[np.ndarray, float, float], np.ndarray]] = {
    "gaussian": _gaussian,
    "nlm": _nlm,
    "wavelet": _wavelet,
    "tv": _tv,
}
