"""Retinexformer against the authors' code, whose outputs and gradients are in reference files."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lumloss_jax.models import create_model, from_torch_state_dict, to_torch_state_dict
from tests.shared_data import needs_shared, of_files

# Each file's fields. The first is kept in the repository too, without intermediates and the larger
# gradients.
FILES = {
    "retinexformer_nf8_s1_b122": {"features": 8},
    "retinexformer_nf8_black": {"features": 8, "num_blocks": (1, 1, 1)},
    "retinexformer_nf8_dark": {"features": 8, "num_blocks": (1, 1, 2)},
    "retinexformer_nf8_pad4_odd": {"features": 8, "num_blocks": (1, 1, 1)},
    "retinexformer_nf12_s2_b111": {"features": 12, "num_blocks": (1, 1, 1), "stages": 2},
    "retinexformer_full_nf40_s1_b122_fp16w": {},
}
# Mean absolute error, from the files' descriptions.
LOSSES = {
    "retinexformer_nf8_s1_b122": 0.5451933140324164,
    "retinexformer_nf8_black": 0.32704771635094226,
    "retinexformer_nf8_dark": 0.6808294149432361,
}


def nhwc(array):
    return np.asarray(np.moveaxis(array, -3, -1), np.float32)


def part(file, prefix):
    return {
        key.removeprefix(prefix): array for key, array in file.items() if key.startswith(prefix)
    }


def check_parity(file, config, jit):
    """Outputs, and where the file has them the loss, its gradients and what stands between."""
    model = create_model("retinexformer", **config)
    variables = from_torch_state_dict("retinexformer", part(file, "state/"), **config)
    images = nhwc(file["input"])

    def restore(params):
        restored, seen = model.apply(
            {"params": params}, images, mutable=["intermediates"], capture_intermediates=True
        )
        return restored, seen["intermediates"]

    if "loss/target" not in file:
        restored, _ = jit(restore)(variables["params"])
        np.testing.assert_allclose(restored, nhwc(file["output_f64"]), rtol=0, atol=3e-5)
        return None, None

    def loss(params):
        restored, seen = restore(params)
        return jnp.mean(jnp.abs(restored - nhwc(file["loss/target"]))), (restored, seen)

    step = jit(jax.value_and_grad(loss, has_aux=True))
    (value, (restored, seen)), gradients = step(variables["params"])
    np.testing.assert_allclose(restored, nhwc(file["output_f64"]), rtol=0, atol=3e-5)
    gradients = to_torch_state_dict("retinexformer", {"params": gradients}, **config)
    expected = part(file, "grad/")
    assert expected
    for key, gradient in expected.items():
        np.testing.assert_allclose(
            gradients[key], gradient, rtol=0, atol=1e-4 * np.abs(gradient).max(), err_msg=key
        )
    return value, seen


@pytest.mark.parametrize(
    "name",
    of_files(
        FILES,
        slow=(
            "retinexformer_nf8_black",
            "retinexformer_nf8_dark",
            "retinexformer_nf12_s2_b111",
            "retinexformer_full_nf40_s1_b122_fp16w",
        ),
    ),
)
def test_matches_the_authors_code(name, reference, jit):
    file = reference(name)
    value, seen = check_parity(file, FILES[name], jit)
    assert (value is not None) == (name in LOSSES)
    if value is not None:
        np.testing.assert_allclose(value, LOSSES[name], rtol=1e-5)
    expected = part(file, "inter/")
    if not expected:
        return
    estimator, restorer = seen["estimator_0"], seen["restorer_0"]
    (lit, guide) = estimator["__call__"][0]
    found = {
        "illu_fea": guide,
        "illu_map": estimator["light"]["__call__"][0],
        "lit_input": lit,
        "embedding": restorer["embed"]["__call__"][0],
        "enc0_block0_attn_out_NHWC": restorer["down_0_block_0"]["attention"]["__call__"][0],
        "enc0_out": restorer["down_0_block_0"]["__call__"][0],
        "enc1_out": restorer["down_1_block_1"]["__call__"][0],
        "bottleneck_out": restorer["bottleneck_block_1"]["__call__"][0],
        "dec0_out": restorer["up_1_block_1"]["__call__"][0],
        "dec1_out": restorer["up_0_block_0"]["__call__"][0],
    }
    assert set(found) == set(expected)
    for key, array in expected.items():
        array = array if key.endswith("NHWC") else nhwc(array)
        np.testing.assert_allclose(found[key], array, rtol=0, atol=3e-5, err_msg=key)
    np.testing.assert_array_equal(seen["lit_images"][0], lit)


@needs_shared
@pytest.mark.slow
def test_matches_the_self_ensemble(reference, jit):
    """Mean over flips of either axis and a quarter turn, each undone.

    Images of the same orientation go through as one batch.
    """
    file = reference("retinexformer_nf8_self_ensemble")
    config = {"features": 8, "num_blocks": (1, 1, 1)}
    restore = jit(create_model("retinexformer", **config).apply)
    variables = from_torch_state_dict("retinexformer", part(file, "state/"), **config)
    images = nhwc(file["input"])[0]
    flips = [(), (0,), (1,), (0, 1)]
    upright = np.stack([np.flip(images, axes) for axes in flips])
    restored = np.asarray(restore(variables, upright))
    np.testing.assert_allclose(restored[0], nhwc(file["output_f64"])[0], rtol=0, atol=3e-5)
    turned = np.rot90(np.asarray(restore(variables, np.rot90(upright, 1, (1, 2)))), -1, (1, 2))
    mean = np.mean(
        [
            np.flip(x, axes)
            for batch in (restored, turned)
            for x, axes in zip(batch, flips, strict=True)
        ],
        0,
    )
    np.testing.assert_allclose(mean, nhwc(file["self_ensemble_output"])[0], rtol=0, atol=3e-5)
