import numpy as np
import pytest
from skimage import filters, restoration

from train.inference.scoring.classical import (
    BASELINES,
    LEVELS,
    SETTINGS,
    apply_setting,
    denoise,
    timed_record,
)
from train.inference.scoring.timing import Stopwatch


def noisy_and_clean(channels: int = 3) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    coarse = rng.uniform(0.2, 0.8, (4, 5, channels))
    clean = np.repeat(np.repeat(coarse, 12, 0), 12, 1).astype(np.float32)
    return clean + rng.normal(0, 25 / 255, clean.shape).astype(np.float32), clean


def test_each_is_scikit_images_own_function() -> None:
    noisy, _ = noisy_and_clean()
    level = 25 / 255
    expected = {
        "gaussian": filters.gaussian(noisy, 0.9, mode="reflect", channel_axis=-1),
        "nlm": restoration.denoise_nl_means(
            noisy,
            patch_size=5,
            patch_distance=6,
            h=0.9 * level,
            sigma=level,
            fast_mode=True,
            channel_axis=-1,
        ),
        "wavelet": restoration.denoise_wavelet(
            noisy,
            sigma=0.9 * level,
            wavelet="db2",
            wavelet_levels=4,  # as many as fit 48 pixels
            method="BayesShrink",
            mode="soft",
            convert2ycbcr=True,
            rescale_sigma=True,
            channel_axis=-1,
        ),
        "tv": restoration.denoise_tv_chambolle(noisy, weight=0.9 * level, channel_axis=-1),
    }
    assert set(expected) == set(BASELINES)
    for name in BASELINES:
        found = apply_setting(name, noisy, sigma=25, setting=0.9)
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, np.clip(expected[name], 0, 1), rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", BASELINES)
@pytest.mark.parametrize("channels", [3, 1])
def test_each_removes_noise(name: str, channels: int) -> None:
    noisy, clean = noisy_and_clean(channels)
    before = np.mean((noisy.clip(0, 1) - clean) ** 2)
    restored = denoise(name, noisy, sigma=25)
    assert restored.shape == clean.shape and 0 <= restored.min() and restored.max() <= 1
    assert np.mean((restored - clean) ** 2) < 0.6 * before


def test_settings_are_interpolated_between_the_levels_that_were_measured() -> None:
    noisy, _ = noisy_and_clean()
    low, high = SETTINGS["tv"][1:3]
    for sigma, setting in {
        20: (low + high) / 2,
        LEVELS[0] - 1: SETTINGS["tv"][0],
        LEVELS[-1] + 1: SETTINGS["tv"][-1],
    }.items():
        np.testing.assert_array_equal(
            denoise("tv", noisy, sigma=sigma),
            apply_setting("tv", noisy, sigma=sigma, setting=setting),
        )
    assert all(len(settings) == len(LEVELS) for settings in SETTINGS.values())


@pytest.mark.parametrize("name", BASELINES)
def test_without_noise_nothing_is_removed(name: str) -> None:
    _, clean = noisy_and_clean()
    np.testing.assert_array_equal(denoise(name, clean, sigma=0), clean)


def test_calls_that_compile_are_not_timed(monkeypatch) -> None:
    now = [0.0]
    monkeypatch.setattr("time.perf_counter", lambda: now[0])

    def work(seconds: float) -> float:
        now[0] += seconds
        return seconds

    stopwatch = Stopwatch()
    for size, seconds in ((1, 100.0), (2, 100.0), (1, 3.0), (2, 5.0)):
        assert stopwatch.run("net", lambda s=seconds: work(s), pixels=10**6, compiles=size)
    stopwatch.run("tv", lambda: work(4.0), pixels=2 * 10**6)
    stopwatch.run("other", lambda: work(7.0), pixels=10**6, compiles=1)
    seconds = stopwatch.per_megapixel(["net", "tv", "other", "missing"])
    assert seconds == {"net": 4.0, "tv": 2.0, "other": 7.0}
    assert timed_record({}) == {}
    record = timed_record(seconds)
    assert set(record["baselines"]) == {"scikit-image", "tv"}
    assert record["seconds_per_megapixel"] == seconds
