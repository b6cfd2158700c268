"""A picture for TensorBoard that shows how a network restores a photograph."""

import numpy as np

from train.data.images import to_uint8

ERROR_SCALE = 4  # Errors are small, so an error of a quarter of the range is drawn in white.


def panels(noisy: np.ndarray, restored: np.ndarray, clean: np.ndarray) -> np.ndarray:
    """Draws noisy, restored, clean, brightness error and colour error side by side.

    The luminance loss averages the same two errors: the absolute Rec. 601 luma of the difference,
    and the absolute difference of each channel.

    Args:
      noisy: float ``[H, W, 3]`` in [0, 1].
      restored: the same shape and range.
      clean: the same shape and range.

    Returns:
      uint8 ``[H, 5 W, 3]``.
    """
    difference = restored - clean
    brightness = np.abs(difference @ np.array([0.299, 0.587, 0.114], np.float32))
    errors = (np.repeat(brightness[..., None], 3, axis=2), np.abs(difference))
    shown = (noisy, restored, clean, *(ERROR_SCALE * error for error in errors))
    return np.concatenate([to_uint8(image) for image in shown], axis=1)
