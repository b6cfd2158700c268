"""The colour term in another colour space, and losses of linear light."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from skimage.color import rgb2lab

from lumloss_jax import color, losses
from tests.slow_cases import slow_for

SPACES = ("rgb", "lab", "oklab", "ycbcr", "hvi")
each_space = pytest.mark.parametrize("space", SPACES)


@pytest.fixture(scope="module")
def pair():
    rng = np.random.default_rng(0)
    targets = rng.uniform(0.1, 0.9, (2, 9, 7, 3)).astype(np.float32)
    return (targets + 0.1 * rng.normal(size=targets.shape)).astype(np.float32), targets


def color_term(predictions, targets, space, **options):
    return losses.luminance_l1_terms(predictions, targets, color_space=space, **options).color


def test_lab_is_that_of_scikit_image(pair):
    predictions, targets = (np.clip(image, 0, 1) for image in pair)
    off = np.abs(rgb2lab(predictions) - rgb2lab(targets)) / 100
    # A name alone compares the chroma axes, a* and b*
    np.testing.assert_allclose(
        color_term(predictions, targets, "lab"), off[..., 1:].mean(), rtol=1e-4
    )
    weighted = (off * [1, 2, 5]).mean((0, 1, 2)).sum() / 8
    found = color_term(predictions, targets, ("lab", (1, 2, 5)))
    np.testing.assert_allclose(found, weighted, rtol=1e-4)


@pytest.mark.parametrize(
    ("space", "convert", "axes"),
    [
        ("oklab", color.rgb_to_oklab, [1, 2]),
        ("ycbcr", lambda image: color.rgb_to_ycbcr(image, full_range=True), [1, 2]),
        ("hvi", color.rgb_to_hvi, [0, 1]),
    ],
)
def test_a_name_compares_the_chroma_axes_of_its_space(pair, space, convert, axes):
    off = np.abs(convert(pair[0]) - convert(pair[1]))[..., axes]
    np.testing.assert_allclose(color_term(*pair, space), off.mean(), rtol=1e-5)


def test_a_change_of_blue_alone_by_hand():
    targets = np.full((1, 2, 2, 3), 0.5, np.float32)
    bluer = targets + np.array([0, 0, 0.1], np.float32)
    # Cb changes by (1 - 0.114) / 1.772, Cr by -0.114 / 1.402, times the change of blue
    expected = 0.1 * (0.886 / 1.772 + 0.114 / 1.402) / 2
    np.testing.assert_allclose(color_term(bluer, targets, "ycbcr"), expected, rtol=1e-5)


def test_rgb_is_the_default_and_its_channels_can_be_weighted(pair):
    plain = losses.luminance_l1_terms(*pair).color
    assert color_term(*pair, "rgb") == plain
    np.testing.assert_allclose(color_term(*pair, ("rgb", (7, 7, 7))), plain, rtol=1e-6)
    red = np.abs(pair[0] - pair[1])[..., 0].mean()
    np.testing.assert_allclose(color_term(*pair, ("rgb", (3, 0, 0))), red, rtol=1e-6)


def test_the_loss_adds_the_terms(pair):
    terms = losses.luminance_l1_terms(*pair, color_space="oklab")
    loss = losses.luminance_l1_loss(
        *pair, color_space="oklab", luminance_weight=0.3, color_weight=0.6
    )
    np.testing.assert_allclose(loss, 0.3 * terms.luminance + 0.6 * terms.color, rtol=1e-6)


@slow_for("space", SPACES, ["lab", "hvi", "oklab"])
def test_equal_and_black_images_have_finite_gradients(space):
    gradient = jax.jit(jax.grad(lambda p, t: color_term(p, t, space)))
    black, grey = jnp.zeros((1, 4, 4, 3)), jnp.full((1, 4, 4, 3), 0.5)
    np.testing.assert_array_equal(gradient(grey, grey), 0 * grey)
    for predictions, targets in ((black, grey), (grey, black), (black, black)):
        assert np.isfinite(gradient(predictions, targets)).all()


@each_space
def test_what_is_masked_out_is_not_read(pair, space):
    mask = np.ones((2, 9, 7), np.float32)
    mask[:, :2] = 0
    value = color_term(*pair, space, mask=mask)
    holes = [np.where(mask[..., None] == 0, np.nan, image).astype(np.float32) for image in pair]
    assert color_term(*holes, space, mask=mask) == value
    np.testing.assert_allclose(
        value, color_term(*(image[:, 2:] for image in pair), space), rtol=1e-5
    )


@pytest.mark.parametrize(
    ("space", "message"),
    [
        ("oklch", "'rgb', 'lab', 'oklab'.*got 'oklch'"),
        (("oklab", (1, 2)), r"three numbers.*got \(1, 2\)"),
        (("oklab", (1, -1, 1)), "0 or more"),
        (("oklab", (0, 0, 0)), "not all 0"),
        (("oklab", (1, float("nan"), 1)), "finite"),
        (None, "got None"),
    ],
)
def test_other_spaces_are_refused(pair, space, message):
    with pytest.raises(ValueError, match=message):
        color_term(*pair, space)


def test_grey_images_have_no_colour_space(pair):
    with pytest.raises(ValueError, match="3 channels.*these have 1"):
        color_term(*(image[..., :1] for image in pair), "lab")


def test_a_spec_may_name_a_space_and_has_one_form():
    spec = losses.parse_loss("luminance_l1(color_space=('lab', (0, 1, 1)))")
    assert str(spec) == "luminance_l1(color_space='lab')"
    weighted = losses.parse_loss("luminance_l1(color_space=('oklab', (1, 2, 2)))")
    assert losses.parse_loss(str(weighted)) == weighted != spec


@pytest.mark.parametrize(
    ("encode", "by_hand"),
    [
        ("pq", lambda image: color.linear_to_pq(image, white=203.0)),
        ("pu21", lambda image: color.linear_to_pu21(image, white=203.0) / 256),
    ],
)
def test_an_encoded_loss_compares_encoded_images(pair, encode, by_hand):
    loss = losses.encoded(losses.l1_loss, encode=encode, white=203.0)
    expected = losses.l1_loss(*(by_hand(image) for image in pair))
    np.testing.assert_allclose(loss(*pair), expected, rtol=1e-6)
    mask = np.ones((2, 9, 7), np.float32)
    mask[0] = 0
    holes = [np.where(mask[..., None] == 0, np.nan, image).astype(np.float32) for image in pair]
    value, gradient = jax.value_and_grad(loss)(*holes, mask=mask)
    np.testing.assert_allclose(value, loss(*(image[1:] for image in pair)), rtol=1e-6)
    assert np.isfinite(gradient).all() and (gradient[0] == 0).all()


def test_an_encoded_composition_returns_its_terms(pair):
    total, terms = losses.encoded(losses.make_loss("l1 + mse"))(*pair)
    np.testing.assert_allclose(total, terms["l1"] + terms["mse"], rtol=1e-6)


def test_wrong_encodings_are_named():
    with pytest.raises(ValueError, match="'pq', 'pu21'.*got 'gamma'"):
        losses.encoded(losses.l1_loss, encode="gamma")
    with pytest.raises(ValueError, match="must be a function"):
        losses.encoded("l1")
    with pytest.raises(ValueError, match="encoded wraps a loss"):
        losses.parse_loss("encoded")
