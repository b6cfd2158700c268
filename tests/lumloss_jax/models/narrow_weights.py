"""Random weights of LPIPS and DISTS, an eighth as wide as those published.

The golden numbers of tests/golden/deep belong to these weights, so they must not change. They are
drawn by NumPy's RandomState, whose numbers do not depend on NumPy's version.
"""

import numpy as np

WIDTHS = {
    "vgg": (64, 64, 128, 128, 256, 256, 256, 512, 512, 512, 512, 512, 512),
    "alex": (64, 192, 384, 256, 256),
}
NUMBERS = {
    "vgg": (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28),
    "alex": (0, 3, 6, 8, 10),
}
KERNELS = {"vgg": (3,) * 13, "alex": (11, 5, 3, 3, 3)}
TAPS = {"vgg": (1, 3, 6, 9, 12), "alex": (0, 1, 2, 3, 4)}


def trunk(net):
    """Torchvision's arrays of a network, by name."""
    random = np.random.RandomState({"vgg": 1, "alex": 2}[net])
    arrays, before = {}, 3
    for number, width, side in zip(NUMBERS[net], WIDTHS[net], KERNELS[net], strict=True):
        width //= 8
        scale = np.sqrt(2 / (before * side * side))
        name = f"features.{number}"
        arrays[f"{name}.weight"] = (scale * random.normal(size=(width, before, side, side))).astype(
            np.float32
        )
        arrays[f"{name}.bias"] = (0.1 * random.normal(size=width)).astype(np.float32)
        before = width
    return arrays


def tap_widths(net):
    return [WIDTHS[net][i] // 8 for i in TAPS[net]]


def lpips(net):
    """Everything that LPIPS needs, by the names of the published files."""
    random = np.random.RandomState(3)
    heads = {
        f"lin{i}.model.1.weight": random.uniform(size=(1, width, 1, 1)).astype(np.float32)
        for i, width in enumerate(tap_widths(net))
    }
    return {**trunk(net), **heads}


def dists():
    """Everything that DISTS needs, by the names of the published files."""
    random = np.random.RandomState(4)
    shape = (1, 3 + sum(tap_widths("vgg")), 1, 1)
    factors = {name: random.uniform(size=shape).astype(np.float32) for name in ("alpha", "beta")}
    return {**trunk("vgg"), **factors}
