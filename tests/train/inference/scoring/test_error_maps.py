import numpy as np
import pytest

from train.inference.scoring.error_maps import error_sheet, flip_of_detail, heat, lab_errors
from train.inference.scoring.measure import flip_errors


def test_error_maps_show_where_and_what_kind() -> None:
    clean = np.full((5, 4, 3), 0.5, np.float32)
    restored = clean.copy()
    restored[1, 2] += 0.1  # grey stays grey: an error in brightness alone
    restored[3, 0] += np.float32([0.1, -0.03, 0])
    brightness, colour = lab_errors(restored, clean)
    assert np.argwhere(brightness > 2).tolist()[0] == [1, 2]
    assert np.argwhere(colour > 2).tolist() == [[3, 0]]
    shades = heat(np.array([0.0, 2.5, 5, 7.5, 10, 99]), largest=10)
    assert (np.diff(shades @ [0.299, 0.587, 0.114])[:4] > 0.05).all()  # brighter is worse
    np.testing.assert_array_equal(shades[4], shades[5])


def test_headings_of_small_photographs_do_not_overlap() -> None:
    """Details are six pixels wide here, but each heading has its own place within its margins."""
    clean = np.full((12, 18, 3), 0.5, np.float32)
    sheet = error_sheet([("", (clean, clean, clean))])
    headings = (sheet[34:68] != 255).any(axis=(0, 2))
    widths = np.diff(np.flatnonzero(np.diff(np.pad(headings, 1).astype(int))))[1::2]
    assert (widths >= 10).sum() == 6  # the gaps between seven headings


def test_a_row_holds_the_photograph_its_detail_and_three_maps() -> None:
    clean = np.full((90, 900, 1), 0.5, np.float32)
    clean[40:60:2, 500:520] = 0  # the strongest edges
    restored = clean.copy()
    restored[50, 510] = 1
    # Names may hold anything
    sheet = error_sheet([("worst: a\n\udcff, 20.00 dB", (clean, clean, restored))])
    # The photograph with the height of the detail, six details, and margins
    assert sheet.shape[1] == 1350 + 6 * 600 + 8 * 12
    framed = np.argwhere((sheet == (255, 210, 0)).all(axis=-1))
    assert framed[:, 1].max() < 12 + 1350
    inside = framed.min(axis=0)[1] - 12, framed.max(axis=0)[1] - 12
    assert inside[0] < 1.5 * 500 and 1.5 * 519 < inside[1]
    brightness, visible = sheet[68:203, -1836:-1236], sheet[68:203, -612:-12]
    # The one wrong pixel, three times as large
    assert ((brightness == (252, 255, 164)).all(axis=-1)).sum() == 9
    # FLIP looks at the surroundings, so more pixels are wrong.
    assert (visible[75 // 3 * 3 - 60 :].sum(axis=-1) > 30).sum() > 9 * 9


@pytest.mark.slow  # FLIP is compiled for each shape of a detail
def test_a_detail_has_the_flip_of_the_whole_photograph() -> None:
    rng = np.random.default_rng(0)
    clean = rng.uniform(0, 1, (60, 70, 3)).astype(np.float32)
    restored = np.clip(clean + rng.normal(0, 0.1, clean.shape), 0, 1).astype(np.float32)
    whole = np.asarray(flip_errors(restored, clean))
    for detail in ((20, 25, 15, 12), (0, 0, 8, 70), (50, 61, 10, 9)):
        top, left, height, width = detail
        np.testing.assert_allclose(
            flip_of_detail(restored, clean, detail),
            whole[top : top + height, left : left + width],
            atol=2e-5,
        )


def test_each_map_has_a_bar_and_a_note_says_what_they_show() -> None:
    clean = np.full((90, 900, 3), 0.5, np.float32)
    sheet = error_sheet([("", (clean, clean, clean))])
    tall = 3 * 45
    bar = sheet[68 + tall + 5, -1836:]
    painted = (bar != 255).any(axis=-1)
    assert [painted[start : start + 600].all() for start in (0, 612, 1224)] == [True] * 3
    np.testing.assert_array_equal(bar[[0, 599]], [(0, 0, 4), (252, 255, 164)])
    assert (sheet[68 + tall + 34 + 12 :] != 255).any()
    narrow = np.full((12, 18, 3), 0.5, np.float32)
    assert error_sheet([("", (narrow, narrow, narrow))]).shape[0] < 600  # the note is wrapped
