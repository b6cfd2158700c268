import numpy as np

from train.data.sources import make_source
from train.experiments.report.crops import find_crops
from train.experiments.statistics.comparison_table import score_network
from train.inference.scoring.protocols import add_fixed_noise


def test_crops_are_where_networks_differ_most():
    """One network spoils a corner of the second photograph, which is the place to show."""
    clean = np.full((300, 200, 3), 128, np.uint8)
    source = make_source(("a", "b"), (clean, clean))

    def spoiled(noisy, sigma):
        image = np.full_like(noisy, 0.5)
        if abs(noisy.mean() - expected) < 1e-9:
            image[200:, 100:] = 0
        return image

    expected = add_fixed_noise(clean / np.float32(255), "b", sigma=10, seed=1).mean()
    networks = {"l1": lambda noisy, sigma: np.full_like(noisy, 0.5), "mse": spoiled}
    rows = [
        row
        for loss, restore in networks.items()
        for row in score_network(
            restore,
            source,
            loss=loss,
            seed=0,
            sigmas=(10.0,),
            noise_seed=1,
            draws=1,
            metrics=("psnr",),
        )
    ]
    (crop,) = find_crops(networks, rows, source, sigma=10.0, noise_seed=1, count=1)
    assert crop.title.startswith("b, sigma 10: mean PSNR over all seeds differs by up to")
    assert crop.clean.shape == (160, 160, 3)
    # The square covers the whole spoiled corner of 100 x 100 pixels, and ends at the border of the
    # photograph.
    assert (crop.restored["mse"][-100:, -100:] == 0).all() and (crop.restored["mse"] == 0).all(
        -1
    ).sum() == 100 * 100
