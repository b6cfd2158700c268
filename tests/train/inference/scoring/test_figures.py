import numpy as np
import skimage.data

from train.data.images import to_float
from train.inference.scoring.baseline_table import BaselineRow, Evaluation
from train.inference.scoring.figures import comparison


def _evaluation(image: np.ndarray) -> Evaluation:
    clean = to_float(image)
    rows = tuple(
        BaselineRow("photo", 25.0, method, 20.0, 0.5, 5.0)
        for method in ("noisy", "blur", "restored")
    )
    return Evaluation("photo", clean, clean * 0.2, clean * 0.6, rows)


def test_the_three_versions_stand_side_by_side_pixel_for_pixel() -> None:
    image = skimage.data.chelsea()[:120, :150]
    sheet = comparison([_evaluation(image)])
    assert sheet.shape == (34 + 120 + 12 + 3 * 60 + 12, 3 * (150 + 12) + 12, 3)
    for i, factor in enumerate((0.2, 0.6, 1.0)):
        panel = sheet[34 : 34 + 120, 12 + i * 162 : 12 + i * 162 + 150]
        same = np.all(panel == np.rint(to_float(image) * factor * 255), axis=2)
        assert same.mean() > 0.9  # everything except the frame around the detail


def test_photographs_of_any_size_go_on_one_sheet() -> None:
    rng = np.random.default_rng(0)
    images = [
        rng.integers(0, 256, (h, w, 3), dtype=np.uint8) for h, w in ((8, 30), (40, 9), (3, 3))
    ]
    assert comparison([_evaluation(image) for image in images]).dtype == np.uint8
