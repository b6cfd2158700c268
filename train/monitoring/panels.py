"""What a network makes of a photograph, as one picture for TensorBoard."""

import numpy as np

from train.data.images import to_uint8

ERROR_SCALE = 4  # errors are small: a quarter of the range is white


def panels(noisy: np.ndarray, restored: np.ndarray, clean: np.ndarray) -> np.ndarray:
    """Draws noisy, restored, clean, brightness error and colour error side by side.

    The errors are what the luminance loss takes means of: of the difference's Rec. 601 luma, and of
    its channels.

    Args:
      noisy: float ``[H, W, 3]`` in [0, 1].
      restored: of the same shape.
      clean: of the same shape.

    Returns:
      uint8 ``[H, 5 W, 3]``.
    """
    difference = restored - clean
    brightness = np.abs(difference @ np.array([0.299, 0.587, 0.114], np.float32))
    errors = (np.repeat(brightness[..., None], 3, axis=2), np.abs(difference))
    shown = (noisy, restored, clean, *(ERROR_SCALE * error for error in errors))
    return np.concatenate([to_uint8(image) for image in shown], axis=1)
