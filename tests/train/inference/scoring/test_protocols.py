import jax
import numpy as np

from train.inference.scoring.protocols import PROTOCOLS, add_fixed_noise, degraded, finished


def test_noise_is_the_same_everywhere() -> None:
    """These values were seen once; different noise on some machine would make different tables."""
    with jax.default_prng_impl("rbg"):  # which JAX_DEFAULT_PRNG_IMPL may set elsewhere
        noisy = add_fixed_noise(np.full((2, 2, 1), 0.5, np.float32), "3096.jpg", sigma=25, seed=0)
    np.testing.assert_allclose(
        noisy.ravel(), [0.45505643, 0.37442908, 0.44941998, 0.40887019], atol=1e-6
    )


def test_protocols_differ_in_what_is_clipped_and_rounded() -> None:
    clean = np.zeros((8, 8, 3), np.float32)
    given = {
        name: degraded(PROTOCOLS[name], clean, "a", sigma=25)
        for name in ("clipped", "unclipped", "float")
    }
    assert given["clipped"].min() == 0 > given["unclipped"].min()
    np.testing.assert_array_equal(given["unclipped"], given["float"])
    restored = np.array([-0.1, 0.5001, 1.1], np.float32)
    for name in ("clipped", "float"):
        np.testing.assert_array_equal(
            finished(PROTOCOLS[name], restored), np.float32([0, 0.5001, 1])
        )
    for name in ("unclipped", "pairs"):
        np.testing.assert_array_equal(
            finished(PROTOCOLS[name], restored), np.float32([0, 128 / 255, 1])
        )
