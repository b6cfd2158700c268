import flax.linen as nn
import jax
import numpy as np
import pytest

from train.inference.tiles.depthwise import quick_depthwise


@pytest.mark.parametrize(("size", "bias"), [((3, 3), True), ((2, 5), False)])
def test_shifted_sums_are_the_convolution(size: tuple[int, int], bias: bool) -> None:
    conv = nn.Conv(6, size, feature_group_count=6, use_bias=bias)
    rng = np.random.default_rng(0)
    images = rng.normal(size=(2, 5, 7, 6)).astype(np.float32)
    variables = {"params": {"kernel": rng.normal(size=(*size, 1, 6)).astype(np.float32)}}
    if bias:
        variables["params"]["bias"] = rng.normal(size=6).astype(np.float32)

    def quick(variables, images):
        with quick_depthwise():
            return conv.apply(variables, images)

    assert "conv_general_dilated" not in str(jax.make_jaxpr(quick)(variables, images))
    expected = jax.jit(conv.apply)(variables, images)
    np.testing.assert_allclose(jax.jit(quick)(variables, images), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    "conv",
    [
        nn.Conv(6, (3, 3)),
        nn.Conv(6, (3, 3), feature_group_count=2),
        nn.Conv(12, (3, 3), feature_group_count=6),
        nn.Conv(6, (3, 3), feature_group_count=6, strides=(2, 2)),
        nn.Conv(6, (3, 3), feature_group_count=6, kernel_dilation=2),
        nn.Conv(6, (3, 3), feature_group_count=6, padding="VALID"),
    ],
)
def test_other_convolutions_stay_what_they_are(conv: nn.Conv) -> None:
    images = np.zeros((1, 5, 7, 6), np.float32)
    with quick_depthwise():
        variables = jax.eval_shape(conv.init, jax.random.key(0), images)
        assert "conv_general_dilated" in str(jax.make_jaxpr(conv.apply)(variables, images))
