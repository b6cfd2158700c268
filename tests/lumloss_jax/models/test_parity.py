"""Outputs, running statistics and gradients against PyTorch's.

The reference files are described in tests/golden/models/README.md.

The bound of 3e-5 separates right from wrong: every deliberate mistake moves an output by 1.6e-4 or
more.
"""

import zlib
from collections.abc import Iterator
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lumloss_jax.models import (
    create_model,
    fold_batch_norm,
    from_torch_state_dict,
    to_torch_state_dict,
    variable_shapes,
)
from tests.shared_data import ROOT, needs_shared, of_files

LEVELS = (8, 12, 16, 24)
CASES = {
    "dncnn_color_d20_full": ("dncnn_blind", {}),
    "dncnn_color_d5_w12": ("dncnn", {"depth": 5, "features": 12}),
    "dncnn_gray_d17_full_fp16w": ("dncnn", {"channels": 1}),
    "dncnn_gray_d6_w8_odd": ("dncnn", {"depth": 6, "features": 8, "channels": 1}),
    "dncnn_kair_gray_nb5_nc10": ("dncnn_kair", {"depth": 5, "features": 10, "channels": 1}),
    "drunet_color_pad8_odd": ("drunet", {"features": LEVELS, "blocks": 1}),
    "drunet_color_small": ("drunet", {"features": (8, 16, 24, 32), "blocks": 2}),
    "drunet_color_small_bias": ("drunet", {"features": LEVELS, "blocks": 1, "bias": True}),
    "unet_concat_color_bn": ("unet", {"features": LEVELS}),
    "unet_concat_gray_nobn_odd": (
        "unet",
        {"features": (6, 12, 20), "batch_norm": False, "channels": 1},
    ),
    "unet_dpir_color_BR": ("unet_dpir", {"features": LEVELS, "blocks": 1, "batch_norm": True}),
    "unet_dpir_gray_R": ("unet_dpir", {"features": LEVELS, "channels": 1}),
}
# Of the descriptions
LOSSES = {
    "dncnn_color_d5_w12": 97.31884250002135,
    "dncnn_gray_d6_w8_odd": 296.93501178759624,
}
TRAINED = [
    "dncnn_color_d5_w12",
    "dncnn_gray_d6_w8_odd",
    "dncnn_kair_gray_nb5_nc10",
    "unet_concat_color_bn",
    "unet_dpir_color_BR",
]


def under(arrays, prefix):
    """The arrays whose names begin so, without that beginning."""
    return {
        name.removeprefix(prefix): array
        for name, array in arrays.items()
        if name.startswith(prefix)
    }


def channels_last(array):
    return np.moveaxis(array, 1, -1)


def split_input(name, arrays):
    """Images, and the noise level where the file's last channel is it."""
    images = channels_last(arrays["input"])
    return (images[..., :-1], images[..., -1]) if name == "drunet" else (images, None)


def restored_by(arrays, entry):
    """The reference's restored image in float64.

    The DnCNN of BUIFD's repository gives the noise instead.
    """
    output = channels_last(arrays[entry]).astype(np.float64)
    is_noise = any(key.startswith("state/dncnn.") for key in arrays)
    return channels_last(arrays["input"]) - output if is_noise else output


@pytest.fixture
def x64() -> Iterator[None]:
    jax.config.update("jax_enable_x64", True)
    # Flax's batch norm mixes float64 with float32 constants
    with jax.numpy_dtype_promotion("standard"):
        yield
    jax.config.update("jax_enable_x64", False)


def test_every_reference_file_has_its_test(shared):
    """A file is covered if a test of this folder names it."""
    tests = "".join(path.read_text() for path in Path(__file__).parent.glob("test_*.py"))
    files = {path.stem for path in (shared / "fixtures").glob("*.npz")} - {"metrics"}
    assert {file for file in files if f'"{file}"' not in tests} == set() and len(files) > 20


def test_every_file_of_nafnet_and_cidnet_has_its_test(shared):
    """Their losses and schedules have tests in other folders."""
    texts = [path.read_text() for path in (ROOT / "tests").rglob("test_*.py")]
    files = {path.stem for path in (shared / "fixtures" / "nafnet_cidnet").glob("*.json")}
    missing = {file for file in files if not any(f'{file}"' in text for text in texts)}
    assert missing == set() and len(files) == 21


def test_what_the_repository_keeps_is_of_the_reference_files(golden, shared):
    folder = golden / "models"
    kept = sorted(folder.rglob("*.npz"))
    for path in kept:
        original = shared / "fixtures" / path.relative_to(folder)
        with np.load(path) as part, np.load(original) as whole:
            for name in part.files:
                np.testing.assert_array_equal(part[name], whole[name], strict=True)
    assert len(kept) >= 16 and sum(path.stat().st_size for path in kept) <= 2.1e6


@pytest.mark.parametrize("file", of_files(CASES))
def test_restores_as_pytorch_does(file, reference, jit):
    (name, config), arrays = CASES[file], reference(file)
    variables = from_torch_state_dict(name, under(arrays, "state/"), **config)
    images, sigma = split_input(name, arrays)
    restored = jit(create_model(name, **config).apply)(variables, images, sigma=sigma)
    np.testing.assert_allclose(restored, restored_by(arrays, "output_f64"), rtol=0, atol=3e-5)


@pytest.mark.parametrize("file", of_files(CASES))
def test_exports_what_it_imported(file, reference):
    (name, config), arrays = CASES[file], reference(file)
    state_dict = under(arrays, "state/")
    exported = to_torch_state_dict(
        name, from_torch_state_dict(name, state_dict, **config), **config
    )
    assert list(exported) == list(state_dict)
    for key, array in state_dict.items():
        if not key.endswith("num_batches_tracked"):
            np.testing.assert_array_equal(exported[key], array.astype(np.float32), strict=True)
        assert exported[key].flags.c_contiguous and exported[key].shape == array.shape


@pytest.mark.parametrize("file", of_files(TRAINED))
def test_trains_as_pytorch_does(file, reference, jit, x64):
    """Batch statistics and their running values, in float64.

    What differs is the reference's own rounding to float32.
    """
    (name, config), arrays = CASES[file], reference(file)
    model = create_model(name, **config, dtype=jnp.float64)
    variables = from_torch_state_dict(name, under(arrays, "state/"), **config)
    images = channels_last(arrays["input"]).astype(np.float64)
    restored, new = jit(
        lambda variables: model.apply(variables, images, train=True, mutable=["batch_stats"])
    )(variables)
    assert restored.dtype == jnp.float64
    np.testing.assert_allclose(restored, restored_by(arrays, "train/output"), rtol=0, atol=3e-5)

    before = under(arrays, "state/")
    after = to_torch_state_dict(name, {"params": variables["params"], **new}, **config)
    expected = under(arrays, "train/new_running/")
    assert expected
    share = 1 - model.norm_momentum
    for key, value in expected.items():
        ours = after[key]
        # PyTorch's running variance is of the unbiased kind, Flax's is not: n / (n - 1)
        if key.endswith("var"):
            pixels = statistic_pixels(name, config, key, images.shape)
            ours = before[key] * (1 - share) + (ours - before[key] * (1 - share)) * pixels / (
                pixels - 1
            )
        np.testing.assert_allclose(ours, value, rtol=3e-5, atol=3e-6)


def statistic_pixels(name, config, key, shape):
    """How many values one channel's statistics are of, in the layer of that PyTorch name."""
    batch, height, width, _ = shape
    halvings = 0
    layer, slot = key.split(".")[:2]
    digits = [int(letter) for letter in layer if letter.isdigit()]
    if name == "unet":  # Conv1 and Up2 work at full resolution
        halvings = digits[0] - 1 if layer.startswith("Conv") else digits[0] - 2
    elif name == "unet_dpir":
        if layer == "m_body":
            halvings = len(config["features"]) - 1
        else:  # the last batch norm of a down stage stands behind the strided convolution
            halvings = (
                digits[0]
                - 1
                + (layer.startswith("m_down") and int(slot) == 3 * config["blocks"] + 1)
            )
    return batch * (height >> halvings) * (width >> halvings)


@pytest.mark.parametrize("file", of_files(LOSSES))
def test_gradients_are_pytorchs(file, reference, jit, float64):
    """In float64: one unit lies 1e-7 from the kink of its ReLU, and float32 may round it across."""
    (name, config), arrays = CASES[file], reference(file)
    model = create_model(name, **config, dtype=jnp.float64)
    variables = from_torch_state_dict(name, under(arrays, "state/"), **config)
    variables = jax.tree.map(np.float64, variables)
    noisy = np.float64(channels_last(arrays["loss/noisy"]))
    noise = np.float64(channels_last(arrays["loss/noise"]))

    def loss(params):  # sum of squares over twice the batch, on the noise
        restored, _ = model.apply(
            {**variables, "params": params}, noisy, train=True, mutable=["batch_stats"]
        )
        return jnp.sum((noisy - restored - noise) ** 2) / (2 * len(noisy))

    with jax.numpy_dtype_promotion("standard"):  # networks are not made for float64
        value, gradient = jit(jax.value_and_grad(loss))(variables["params"])
    np.testing.assert_allclose(value, LOSSES[file], rtol=1e-6)
    ours = to_torch_state_dict(name, {**variables, "params": gradient}, **config)
    expected = under(arrays, "grad/")
    assert expected
    for key, value in expected.items():
        np.testing.assert_allclose(ours[key], value, rtol=0, atol=1e-6 * np.abs(value).max())


def test_folds_batch_norm_as_kair_does(reference, jit):
    name, config = CASES["dncnn_kair_gray_nb5_nc10"]
    arrays = reference("dncnn_kair_gray_nb5_nc10")
    model = create_model(name, **config)
    folded, variables = fold_batch_norm(
        model, from_torch_state_dict(name, under(arrays, "state/"), **config)
    )
    apply = jit(folded.apply)
    restored = apply(variables, channels_last(arrays["input"]))
    np.testing.assert_allclose(restored, channels_last(arrays["merged_output"]), rtol=0, atol=3e-5)

    merged = to_torch_state_dict("dncnn_kair_merged", variables, **config)
    expected = under(arrays, "merged_state/")
    assert list(merged) == list(expected)
    for key, value in expected.items():
        np.testing.assert_allclose(merged[key], value, rtol=1e-5, atol=1e-6)
    again = from_torch_state_dict("dncnn_kair_merged", expected, **config)
    np.testing.assert_allclose(apply(again, channels_last(arrays["input"])), restored, atol=1e-5)


@needs_shared
@pytest.mark.slow
def test_drunet_of_full_size(reference, jit):
    """Weights drawn by the recipe of the file's sidecar, since 131 MB of them are not stored."""
    arrays = reference("drunet_color_full_recipe")
    model = create_model("drunet")
    empty = jax.tree.map(lambda leaf: np.zeros(leaf.shape, np.float32), variable_shapes(model))
    state_dict = {}
    for key, array in to_torch_state_dict("drunet", empty).items():
        fan = (
            array.shape[0]
            if key in ("m_up3.0.weight", "m_up2.0.weight", "m_up1.0.weight")
            else np.prod(array.shape[1:])
        )
        generator = np.random.RandomState(zlib.crc32(key.encode()) ^ 331)
        state_dict[key] = (
            generator.standard_normal(array.shape) * 0.4 * np.sqrt(1.6 / fan)
        ).astype(np.float32)
    np.testing.assert_allclose(
        state_dict["m_head.weight"].sum(dtype=np.float64), 0.5454234867684136, rtol=1e-6
    )
    images, sigma = split_input("drunet", arrays)
    restored = jit(model.apply)(from_torch_state_dict("drunet", state_dict), images, sigma=sigma)
    np.testing.assert_allclose(restored, channels_last(arrays["output_f64"]), rtol=0, atol=3e-5)


@needs_shared
def test_drunet_in_four_tiles(reference, jit):
    """DPIR's evaluation: overlapping tiles at the corners, a quadrant from each."""
    arrays, config = (
        reference("drunet_color_onesplit64"),
        {"features": (6, 10, 14, 18), "blocks": 1},
    )
    apply = jit(create_model("drunet", **config).apply)
    variables = from_torch_state_dict("drunet", under(arrays, "state/"), **config)
    images, sigma = split_input("drunet", arrays)
    height, width = images.shape[1:3]
    tile = [(size // 2 // 64 + 1) * 64 for size in (height, width)]
    whole = np.zeros_like(images)
    for top, bottom in ((0, height // 2), (height // 2, height)):
        for left, right in ((0, width // 2), (width // 2, width)):
            # The tile begins at the image's corner, or ends there.
            y, x = (0 if top == 0 else height - tile[0]), (0 if left == 0 else width - tile[1])
            cut = np.s_[:, y : y + tile[0], x : x + tile[1]]
            part = apply(variables, images[cut], sigma=sigma[cut])
            whole[:, top:bottom, left:right] = part[:, top - y : bottom - y, left - x : right - x]
    np.testing.assert_allclose(whole, channels_last(arrays["output_f64"]), rtol=0, atol=3e-5)
