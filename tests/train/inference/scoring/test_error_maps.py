import numpy as np

from train.inference.scoring.error_maps import error_sheet, heat, lab_errors


def test_error_maps_show_where_and_what_kind() -> None:
    clean = np.full((5, 4, 3), 0.5, np.float32)
    restored = clean.copy()
    restored[1, 2] += 0.1  # grey stays grey: an error in brightness alone
    restored[3, 0] += np.float32([0.1, -0.03, 0])
    brightness, colour = lab_errors(restored, clean)
    assert np.argwhere(brightness > 2).tolist()[0] == [1, 2]
    assert np.argwhere(colour > 2).tolist() == [[3, 0]]
    shades = heat(np.array([0.0, 2.5, 5, 7.5, 10, 99]))
    assert (np.diff(shades @ [0.299, 0.587, 0.114])[:4] > 0.05).all()  # brighter is worse
    np.testing.assert_array_equal(shades[4], shades[5])


def test_headings_of_small_photographs_do_not_overlap() -> None:
    """Details are six pixels wide here, but each heading has its own place within its margins."""
    clean = np.full((12, 18, 3), 0.5, np.float32)
    sheet = error_sheet([("", (clean, clean, clean))])
    headings = (sheet[34:68] != 255).any(axis=(0, 2))
    widths = np.diff(np.flatnonzero(np.diff(np.pad(headings, 1).astype(int))))[1::2]
    assert (widths >= 10).sum() == 5  # the gaps between six headings


def test_a_row_holds_the_photograph_its_detail_and_two_maps() -> None:
    clean = np.full((90, 900, 1), 0.5, np.float32)
    clean[40:60:2, 500:520] = 0  # the strongest edges
    restored = clean.copy()
    restored[50, 510] = 1
    # Names may hold anything
    sheet = error_sheet([("worst: a\n\udcff, 20.00 dB", (clean, clean, restored))])
    # The photograph with the height of the detail, five details, and margins
    assert sheet.shape[1] == 1350 + 5 * 600 + 7 * 12
    framed = np.argwhere((sheet == (255, 210, 0)).all(axis=-1))
    assert framed[:, 1].max() < 12 + 1350
    inside = framed.min(axis=0)[1] - 12, framed.max(axis=0)[1] - 12
    assert inside[0] < 1.5 * 500 and 1.5 * 519 < inside[1]
    brightness = sheet[:, -1200:-600]
    # The one wrong pixel, three times as large
    assert ((brightness == (252, 255, 164)).all(axis=-1)).sum() == 9
