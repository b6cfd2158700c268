"""JPEG against Pillow's codec, against the standard by hand, and its straight-through gradient."""

import functools
import io

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import skimage.data
from jax import export
from PIL import Image

from lumloss_jax._dct import LUMINANCE_STEPS
from lumloss_jax.degradations import jpeg
from lumloss_jax.degradations._jpeg_steps import CHROMA_STEPS, steps_at

# Compiled once for each size, which is far quicker than its operations one by one.
compress = jax.jit(jpeg, static_argnames="subsampling")


@functools.partial(jax.jit, static_argnames="subsampling")
def gradient_of(weights, image, quality=60, subsampling="4:2:0"):
    """Of the weighted sum, with respect to image and quality."""

    def weighted(image, quality):
        return (weights * jpeg(None, image, quality=quality, subsampling=subsampling)).sum()

    return jax.grad(weighted, argnums=(0, 1))(image, jnp.asarray(quality, image.dtype))


def by_pillow(image: np.ndarray, quality: int, subsampling: str) -> np.ndarray:
    """The 8-bit image ``[H, W, C]`` through Pillow's file writer and reader."""
    file = io.BytesIO()
    picture = Image.fromarray(image if image.shape[-1] == 3 else image[..., 0])
    picture.save(file, "JPEG", quality=quality, subsampling=subsampling)
    return np.asarray(Image.open(file)).reshape(image.shape)


def by_ours(image: np.ndarray, quality: int, subsampling: str) -> np.ndarray:
    return 255 * np.asarray(
        compress(None, image.astype(np.float32) / 255, quality=quality, subsampling=subsampling)
    )


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    return float(10 * np.log10(255**2 / np.mean((a.astype(np.float64) - b) ** 2)))


def crop(name: str, height: int = 155, width: int = 169) -> np.ndarray:
    """A crop of a photograph, neither side a multiple of 8, with faces, fur or print in it."""
    image = getattr(skimage.data, name)()
    return image.reshape(*image.shape[:2], -1)[60 : 60 + height, 140 : 140 + width, :3]


# Pillow


@pytest.mark.parametrize("subsampling", ["4:2:0", "4:4:4"])
@pytest.mark.parametrize("quality", [10, 30, 50, 75, 90, 95])
@pytest.mark.parametrize("name", ["astronaut", "coffee", "chelsea"])
def test_photographs_come_out_as_pillow_s(name, quality, subsampling):
    image = crop(name)
    theirs, ours = by_pillow(image, quality, subsampling), by_ours(image, quality, subsampling)
    assert psnr(ours, theirs) > 49
    # What a coder is judged by, the error that it makes, is the same.
    assert abs(psnr(ours, image) - psnr(theirs, image)) < 0.05


@pytest.mark.parametrize("quality", [10, 50, 95])
def test_greyscale_comes_out_as_pillow_s(quality):
    image = crop("camera")
    theirs, ours = by_pillow(image, quality, "4:2:0"), by_ours(image, quality, "4:2:0")
    assert psnr(ours, theirs) > 51
    assert abs(psnr(ours, image) - psnr(theirs, image)) < 0.05
    np.testing.assert_array_equal(ours, by_ours(image, quality, "4:4:4"))


@pytest.mark.parametrize(
    ("size", "subsampling"),
    [
        ((1, 1), "4:2:0"),
        ((3, 4), "4:2:0"),
        ((8, 5), "4:2:0"),
        ((16, 16), "4:2:0"),
        ((17, 33), "4:2:0"),
        ((30, 6), "4:2:0"),
        # Without subsampling only whole blocks matter.
        ((3, 4), "4:4:4"),
        ((16, 16), "4:4:4"),
        ((17, 33), "4:4:4"),
    ],
)
def test_any_size_comes_out_as_pillow_s(size, subsampling):
    # At quality 100 every step is 1, so a coefficient rounded the other way is a level or two, and
    # an edge, a phase or a neighbour taken wrongly is more.
    image = crop("coffee", *size)
    difference = by_ours(image, 100, subsampling) - by_pillow(image, 100, subsampling)
    assert np.abs(difference).max() < 3.5 and np.mean(np.abs(difference)) < 0.5


@pytest.mark.parametrize("quality", [1, 20, 49, 50, 51, 80, 100])
def test_steps_of_quantisation_are_those_in_pillow_s_file(quality):
    """To the unit, which no pixel shows: those of the decoded image are rounded to 8 bits."""
    file = io.BytesIO()
    Image.fromarray(crop("coffee", 8, 8)).save(file, "JPEG", quality=quality)
    tables = Image.open(file).quantization
    image = jnp.zeros((8, 8, 3))
    for index, base in enumerate((LUMINANCE_STEPS, CHROMA_STEPS)):
        steps = steps_at(base, jnp.float32(quality), image)
        np.testing.assert_array_equal(steps.ravel(), tables[index])


# By hand


def test_a_flat_block_keeps_only_its_mean_by_hand():
    # Grey 100: the mean's coefficient is 8 * (100 - 128) = -224; at quality 50 its step is 16, -14
    # steps exactly.
    flat = jnp.full((8, 8, 1), 100 / 255)
    np.testing.assert_allclose(255 * compress(None, flat, quality=50), 100, rtol=1e-6)
    # Grey 101: -216 / 16 = -13.5 is half way and goes away from 0 to -14 again.
    np.testing.assert_allclose(255 * compress(None, flat + 1 / 255, quality=50), 100, rtol=1e-6)
    # Quality 25: steps double, -224 / 32 = -7; grey 97 is -248 / 32 = -7.75, goes to -8, and comes
    # back as 96.
    np.testing.assert_allclose(255 * compress(None, flat - 3 / 255, quality=25), 96, rtol=1e-6)


def test_one_cosine_survives_where_its_step_allows_by_hand():
    # A vertical cosine of amplitude 20 has one coefficient, 20 * 8 / sqrt(2) = 113.1, at row 2 of
    # the table's column 0: step 14 at quality 50, 8.08 steps, so it comes back with 8 * 14 / 113.1
    # of its amplitude.
    rows = np.arange(8)
    cosine = np.cos((2 * rows + 1) * 2 * np.pi / 16)
    image = (128 + 20 * cosine)[:, None, None] * np.ones((8, 8, 1))
    coded = 255 * np.asarray(compress(None, jnp.asarray(image / 255, jnp.float32), quality=50))
    np.testing.assert_allclose(coded[:, 0, 0], np.round(128 + 20 * cosine * 112 / 113.137), atol=1)


def test_flat_colours_keep_their_place_under_subsampling():
    left_red = jnp.zeros((16, 32, 3)).at[:, :16, 0].set(1).at[:, 16:, 2].set(1)
    coded = compress(None, left_red, quality=95)
    assert (
        np.abs(coded - left_red)[:, :12].max() < 0.05
        and np.abs(coded - left_red)[:, 20:].max() < 0.05
    )
    assert np.abs(coded - left_red)[:, 14:18].max() > 0.1  # colour bleeds over the edge
    assert np.abs(compress(None, left_red, quality=95, subsampling="4:4:4") - left_red).max() < 0.05


def test_the_result_is_an_8_bit_image():
    coded = 255 * compress(
        None,
        jax.random.uniform(jax.random.key(0), (2, 20, 20, 3), minval=-0.5, maxval=1.5),
        quality=30,
    )
    np.testing.assert_allclose(coded, np.round(coded), atol=1e-4)
    assert coded.min() >= 0 and coded.max() <= 255


def test_it_is_almost_settled_by_a_second_time():
    image = jnp.asarray(crop("chelsea", 64, 64), jnp.float32) / 255
    once = compress(None, image, quality=40, subsampling="4:4:4")
    twice = compress(None, once, quality=40, subsampling="4:4:4")
    assert np.abs(255 * (twice - once)).mean() < 0.1


# Quality


def test_quality_may_be_traced_and_differ_by_image():
    image = jnp.asarray(crop("coffee", 40, 40), jnp.float32) / 255
    batch = jnp.stack([image, image, image])
    quality = jnp.array([10, 50, 90])
    together = compress(None, batch, quality=quality)
    for i, q in enumerate((10, 50, 90)):
        np.testing.assert_array_equal(together[i], compress(None, image, quality=q))


def test_traced_quality_is_rounded_and_clipped_to_its_range():
    image = jnp.asarray(crop("coffee", 24, 24), jnp.float32) / 255
    for given, meant in ((49.6, 50), (-3.0, 1), (400.0, 100)):
        np.testing.assert_array_equal(
            compress(None, image, quality=given), compress(None, image, quality=meant)
        )


def test_error_falls_as_quality_rises():
    image = crop("astronaut", 64, 64)
    scores = [psnr(by_ours(image, quality, "4:2:0"), image) for quality in (5, 20, 40, 60, 80, 95)]
    assert scores == sorted(scores)


# Gradients


def test_gradient_is_straight_through_for_grey():
    image = jax.random.uniform(jax.random.key(0), (20, 13, 1), minval=0.2, maxval=0.8)
    weights = jax.random.normal(jax.random.key(1), image.shape)
    gradient, _ = gradient_of(weights, image)
    np.testing.assert_allclose(gradient, weights, atol=2e-5)


def test_gradient_of_full_colour_is_straight_through():
    image = jnp.stack([jnp.full((16, 16, 3), v) for v in (0.0, 0.5, 1.0)])
    weights = jax.random.normal(jax.random.key(1), image.shape)
    gradient, _ = gradient_of(weights, image, subsampling="4:4:4")
    np.testing.assert_allclose(gradient, weights, atol=2e-5)


def test_gradient_of_subsampled_colour_keeps_the_sum():
    # Averaging and interpolating chroma moves gradient among pixels and channels and makes none.
    image = jnp.full((18, 22, 3), 0.5)
    gradient, _ = gradient_of(1.0, image)
    np.testing.assert_allclose(gradient.sum(), image.size, rtol=1e-5)
    assert np.isfinite(gradient).all()


def test_values_outside_the_range_and_quality_pass_no_gradient():
    image = jnp.array([-0.2, 1.3, 0.5, 0.5]).reshape(2, 2, 1)
    by_image, by_quality = gradient_of(1.0, image, 70.0)
    assert by_image[0, 0, 0] == 0 and by_image[0, 1, 0] == 0 and by_image[1, 0, 0] != 0
    assert by_quality == 0


# Types, shapes, errors


def test_float64_stays_and_half_comes_back_as_float32(x64):
    image = crop("coffee", 24, 24) / 255
    double = compress(None, image, quality=50)
    assert double.dtype == jnp.float64
    single = compress(None, jnp.asarray(image, jnp.float32), quality=50)
    np.testing.assert_allclose(single, double, atol=12 / 255)
    assert compress(None, jnp.asarray(image, jnp.bfloat16), quality=50).dtype == jnp.float32


def test_leading_axes_are_images():
    image = jnp.asarray(crop("coffee", 24, 48), jnp.float32).reshape(2, 1, 24, 24, 3) / 255
    coded = compress(None, image, quality=jnp.array([[30], [60]]))
    np.testing.assert_array_equal(coded[1, 0], compress(None, image[1, 0], quality=60))


@pytest.mark.slow
def test_symbolic_sizes_export():
    height, width = export.symbolic_shape("h, w")
    exported = export.export(jax.jit(lambda x: jpeg(None, x, quality=50)))(
        jax.ShapeDtypeStruct((2, height, width, 3), jnp.float32)
    )
    image = jnp.asarray(crop("coffee", 21, 66), jnp.float32).reshape(2, 21, 33, 3) / 255
    np.testing.assert_array_equal(exported.call(image), compress(None, image, quality=50))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"quality": 0}, r"quality must lie in \[1, 100\]; got 0"),
        ({"quality": 101}, r"quality must lie in \[1, 100\]; got 101"),
        ({"quality": np.array([50, -1])}, r"got -1"),
        ({"quality": np.full(3, 50)}, r"quality has shape \(3,\).*one per image \(2,\)\."),
        ({"quality": np.full((2, 8, 8), 50)}, "quality has shape"),
        ({"quality": "high"}, "quality must be real numbers"),
        ({"quality": 50, "subsampling": "420"}, "did you mean '4:2:0'"),
        ({"quality": 50, "subsampling": 0}, "subsampling accepts '4:2:0', '4:4:4'; got 0"),
    ],
)
def test_wrong_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        jpeg(None, jnp.zeros((2, 8, 8, 3)), **options)
