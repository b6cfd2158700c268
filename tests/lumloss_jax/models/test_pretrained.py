"""Published weights, imported, give the published PSNRs on the same noise."""

import functools
import json

import jax
import numpy as np
import pytest
import skimage.data

from lumloss_jax.models import create_model, from_torch_state_dict

MODELS = {
    "color_DnCNN_55": ("dncnn_blind", {}),
    "color_DnCNN_75": ("dncnn_blind", {}),
    "gray_DnCNN_55": ("dncnn_blind", {"channels": 1}),
    "gray_DnCNN_75": ("dncnn_blind", {"channels": 1}),
    "kair_dncnn_25": ("dncnn_kair_merged", {"channels": 1}),
}


@functools.cache
def load(shared, model):
    name, config = MODELS[model]
    with np.load(shared / "pretrained" / f"state_{model}.npz") as file:
        state_dict = {key.removeprefix("state/"): array for key, array in file.items()}
    return jax.jit(create_model(name, **config).apply), from_torch_state_dict(
        name, state_dict, **config
    )


@functools.cache
def expected_psnrs(shared):
    return json.loads((shared / "pretrained" / "expected_psnr.json").read_text())["results"]


def psnr(restored, clean):
    return -10 * np.log10(np.mean((np.clip(np.asarray(restored, np.float64), 0, 1) - clean) ** 2))


@pytest.mark.parametrize("model", MODELS)
def test_predicted_noise_and_psnr_on_crops(model, shared):
    restore, variables = load(shared, model)
    crop = "astronaut_y60_x180" if model.startswith("color") else "camera_y120_x200"
    with np.load(shared / "pretrained" / f"parity_{model}.npz") as file:
        arrays = dict(file)
    for sigma in (15, 25, 50):
        images = np.moveaxis(arrays[f"s{sigma}/net_input_nchw"], 1, -1)
        noise = np.moveaxis(arrays[f"s{sigma}/predicted_noise_f64_nchw"], 1, -1)
        restored = np.asarray(restore(variables, images))
        np.testing.assert_allclose(images - restored, noise, rtol=0, atol=3e-5)
        clean = arrays[f"s{sigma}/clean_rgb_hwc"].reshape(images.shape[1:])
        expected = expected_psnrs(shared)[f"{model}|crop72x80_{crop}|{sigma}"]["output_psnr"]
        assert abs(psnr(restored[0, ..., ::-1], clean) - expected) < 0.01


@pytest.mark.slow
@pytest.mark.parametrize("sigma", [15, 25, 50])
# Blue for red would cost 0.2 dB on coffee, where it gains 0.01 dB on chelsea.
@pytest.mark.parametrize("image", ["astronaut", "chelsea", "coffee"])
def test_psnr_of_imported_colour_dncnn(image, sigma, shared):
    """The authors read files with OpenCV, so these weights expect blue, green, red."""
    restore, variables = load(shared, "color_DnCNN_55")
    clean = getattr(skimage.data, image)() / 255
    noise = np.random.RandomState(sigma).standard_normal(clean.shape)
    noisy = np.clip(clean + noise * sigma / 255, 0, 1).astype(np.float32)
    restored = np.asarray(restore(variables, noisy[None, ..., ::-1]))[0, ..., ::-1]
    expected = expected_psnrs(shared)[f"color_DnCNN_55|{image}|{sigma}"]["output_psnr_clipped_BGR"]
    assert abs(psnr(restored, clean) - expected) < 0.01
