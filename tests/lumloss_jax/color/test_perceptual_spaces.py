"""OKLab, HVI, ICtCp, PQ and PU21 against their authors' numbers, and their slopes in the dark."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lumloss_jax import color


@pytest.fixture(scope="module")
def arrays(golden):
    with np.load(golden / "perceptual" / "perceptual.npz") as stored:
        return dict(stored)


def values(rgb, out_of_range, light):
    return {
        "colour/oklab": color.rgb_to_oklab(rgb),
        "colour/oklab_out_of_range": color.rgb_to_oklab(out_of_range),
        "colour/hvi_exact_k0.2": color.rgb_to_hvi(rgb),
        "colour/hvi_k1": color.rgb_to_hvi(rgb, k=1.0),
        "colour/hvi_k0.05": color.rgb_to_hvi(rgb, k=0.05),
        "colour/ictcp_white100": color.rgb_to_ictcp(rgb, floor=0.0),
        "encoding/pq": color.linear_to_pq(light, white=1.0, floor=0.0),
        "encoding/pu21_banding_glare": color.linear_to_pu21(light, white=1.0),
    }


# The reference adds 1e-8 to intensity and chroma: colours near black differ by that, to the power
# of k.
REFERENCE = {"colour/hvi_k1": 1e-7, "colour/hvi_k0.05": 3e-5}
NOT_OURS = {
    "colour/oklab_css4": "another rounding of the same matrix, within 4e-8",
    "colour/hvi_k0.2": "the reference; colour/hvi_exact_k0.2 is ours",
    "colour/hvi_reference_inverse_k0.2": "it is not exact",
    "encoding/pu21_banding": "its authors ask to use banding_glare",
    "encoding/pu21_peaks": "its authors ask to use banding_glare",
    "encoding/pu21_peaks_glare": "its authors ask to use banding_glare",
    "encoding/mu_law_5000": "there is no mu-law here",
    "colour/delta_e_itp": "a distance; tested below",
}
GIVEN = {
    "colour/rgb",
    "colour/rgb_out_of_range",
    "colour/permutation",
    "encoding/luminance",
    "encoding/mu_law_x",
}


def found(arrays, dtype):
    rgb, out_of_range = (
        arrays[f"colour/{name}"].astype(dtype)[None] for name in ("rgb", "rgb_out_of_range")
    )
    light = arrays["encoding/luminance"].astype(dtype).reshape(1, -1, 1)
    return {
        key: np.asarray(value)[0]
        for key, value in jax.jit(values)(rgb, out_of_range, light).items()
    }


def test_reference_values_in_float64(arrays, float64):
    ours = found(arrays, np.float64)
    listed = {key for key in arrays if key.split("/")[0] in ("colour", "encoding")}
    assert listed == ours.keys() | NOT_OURS.keys() | GIVEN
    for key, value in ours.items():
        expected = arrays[key].reshape(value.shape)
        np.testing.assert_allclose(
            value, expected, rtol=0, atol=REFERENCE.get(key, 1e-9), err_msg=key
        )
    ictcp = ours["colour/ictcp_white100"]
    off = ictcp - ictcp[arrays["colour/permutation"]]
    distance = 720 * np.sqrt(off[:, 0] ** 2 + 0.25 * off[:, 1] ** 2 + off[:, 2] ** 2)
    np.testing.assert_allclose(distance, arrays["colour/delta_e_itp"], rtol=0, atol=1e-9)


def test_reference_values_in_float32(arrays):
    atol = {
        "colour/ictcp_white100": 5e-5,
        "encoding/pq": 5e-5,
        "encoding/pu21_banding_glare": 5e-4,
    } | REFERENCE
    for key, value in found(arrays, np.float32).items():
        expected = arrays[key].reshape(value.shape)
        np.testing.assert_allclose(
            value, expected, rtol=0, atol=max(2e-6, atol.get(key, 0)), err_msg=key
        )


def test_every_inverse_is_exact_in_float64(arrays, float64):
    """Black and greys too, where HVI's reference is off by 1e-4."""
    rgb = arrays["colour/rgb"][None]
    assert (rgb == 0).all(-1).any() and (rgb == rgb[..., :1]).all(-1).any()
    pairs = {
        # SRGB's two pieces meet within 3e-8
        "oklab": (
            lambda x: color.oklab_to_rgb(color.rgb_to_oklab(x)),
            1e-7,
        ),
        "chord": (
            lambda x: color.oklab_to_rgb(color.rgb_to_oklab(x, chord_below=1e-3), chord_below=1e-3),
            1e-7,
        ),
        "hvi": (lambda x: color.hvi_to_rgb(color.rgb_to_hvi(x)), 1e-14),
        "ictcp": (lambda x: color.ictcp_to_rgb(color.rgb_to_ictcp(x, floor=0.0)), 1e-7),
        "pq": (lambda x: color.pq_to_linear(color.linear_to_pq(x, floor=0.0)), 1e-13),
    }
    back = jax.jit(
        lambda x: {name: there_and_back(x) for name, (there_and_back, _) in pairs.items()}
    )(rgb)
    for name, (_, atol) in pairs.items():
        np.testing.assert_allclose(back[name], rgb, rtol=0, atol=atol, err_msg=name)


def test_slopes_in_the_dark_are_those_that_are_documented(float64):
    dark = np.array([0.0, 1e-9, 1e-4, 1 / 255])

    def slopes(function):
        grey = jnp.asarray(dark)
        return np.asarray(
            jax.jit(jax.vmap(jax.grad(lambda v: function(jnp.full((1, 1, 3), v))[0, 0, 0])))(grey)
        )

    plain = slopes(color.rgb_to_oklab)
    assert plain[0] == 0
    np.testing.assert_allclose(plain[1:], 0.142 * dark[1:] ** (-2 / 3), rtol=5e-3)
    chord = slopes(lambda image: color.rgb_to_oklab(image, chord_below=1.5e-4))
    np.testing.assert_allclose(12.92 * chord[:3], np.full(3, 354), rtol=2e-3)
    assert chord[3] == plain[3]
    assert (slopes(color.linear_to_pq)[:2] == 0).all() and (
        slopes(color.linear_to_pu21)[:2] == 0
    ).all()


def test_hvi_slopes_are_finite_at_greys_at_black_and_for_its_k():
    grey, black = jnp.full((1, 1, 3), 0.5), jnp.zeros((1, 1, 3))
    gradient = jax.jit(
        jax.grad(lambda image, k: jnp.sum(color.rgb_to_hvi(image, k=k)[..., :2]), (0, 1))
    )
    for image in (grey, black, grey.at[0, 0, 0].add(1e-6), black.at[0, 0, 1].set(1e-6)):
        of_image, of_k = gradient(image, 0.2)
        assert np.isfinite(of_image).all() and np.isfinite(of_k)
    for image in (grey, black):
        assert (gradient(image, 0.2)[0] == 0).all()
    inverse = jax.jit(
        jax.grad(lambda k: jnp.sum(color.hvi_to_rgb(jnp.array([[[0.2, 0.1, 0.5]]]), k=k)))
    )
    assert inverse(0.2) != 0


def test_bad_options_are_named():
    image = np.ones((1, 1, 3), np.float32)
    for function, options, message in [
        (color.rgb_to_oklab, {"chord_below": -1.0}, "chord_below must be finite and not negative"),
        (color.rgb_to_hvi, {"k": 0.0}, "k must be at least 1e-06"),
        (color.hvi_to_rgb, {"k": -1.0}, "k must be finite and not negative"),
        (color.linear_to_pq, {"white": 0.0}, "white must be at least 1e-06"),
        (color.linear_to_pq, {"floor": -0.1}, "floor must be finite and not negative"),
        (color.pu21_to_linear, {"white": 0.0}, "white must be at least 1e-06"),
        (color.rgb_to_ictcp, {"white": np.ones(3)}, "white must be one number"),
    ]:
        with pytest.raises(ValueError, match=message):
            function(image, **options)
