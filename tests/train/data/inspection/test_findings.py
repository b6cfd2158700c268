from collections.abc import Sequence

import numpy as np

from train.data.entries import Entry
from train.data.inspection.findings import Findings, note_duplicates
from train.data.inspection.pixel_inspection import Appearance
from train.data.sources import Source, Split


def seen(*splits: tuple[Split, Sequence[tuple[str, int]]]) -> Findings:
    """What is found of photographs, given by their digests and perceptual hashes."""
    findings = Findings()
    sources, appearances = [], []
    for split, photographs in splits:
        names = tuple(f"{i}.png" for i in range(len(photographs)))
        entries = tuple(
            Entry(name, 9, 9, 8, digest)
            for name, (digest, _) in zip(names, photographs, strict=True)
        )
        sources.append((split, Source(names, (), entries)))
        appearances.append([Appearance(np.ones(10), 0.0, hashed, "") for _, hashed in photographs])
    note_duplicates(findings, sources, appearances)
    return findings


def test_a_scene_of_a_thousand_frames_is_one_sentence() -> None:
    findings = seen(("train", [(str(i), i % 7) for i in range(1000)]))
    assert findings.notes == [
        "1,000 photographs look alike: 0.png, 1.png, 2.png and 997 more (train)."
    ]
    assert not findings.wrong and not findings.framed


def test_copies_are_one_sentence_and_do_not_count_as_alike() -> None:
    findings = seen(("train", [("a", 0)] * 1000 + [("b", 2**64 - 1)]))
    assert findings.notes == [
        "1,000 photographs have the same pixels: 0.png, 1.png, 2.png and 997 more (train)."
    ]
    findings = seen(("train", [("a", 0)] * 3 + [("b", 1)]))
    assert findings.notes == [
        "3 photographs have the same pixels: 0.png, 1.png, 2.png (train).",
        "0.png (train) and 3.png (train) look alike.",
    ]


def test_what_is_in_two_splits_is_wrong_and_framed() -> None:
    findings = seen(
        ("train", [("a", 0), ("b", 1), ("c", 2**64 - 1)]),
        ("test", [("a", 0), ("d", 3), ("e", 2**40 - 1)]),
    )
    assert findings.wrong == [
        "0.png (train) and 0.png (test) have the same pixels but are in different splits.",
        "4 photographs look alike but are in different splits: 0.png, 1.png (train); 0.png, 1.png "
        "(test).",
    ]
    assert findings.notes == [
        "0.png (train) and 1.png (train) look alike.",
        "0.png (test) and 1.png (test) look alike.",
    ]
    assert findings.framed == {
        ("train", "0.png"),
        ("train", "1.png"),
        ("test", "0.png"),
        ("test", "1.png"),
    }


def test_four_names_are_shorter_than_three_and_one_more() -> None:
    findings = seen(("train", [(str(i), 0) for i in range(4)]))
    assert findings.notes == ["4 photographs look alike: 0.png, 1.png, 2.png, 3.png (train)."]


def test_at_most_a_page_is_printed_without_all() -> None:
    findings = Findings([f"wrong {i}" for i in range(21)], [f"note {i}" for i in range(500)])
    page = list(findings.shown(everything=False))
    assert page[0] == "Worth knowing (500):"
    assert page[21] == "  ... and 480 more. Use --all to list them."
    assert page[22] == "Problems (21):" and page[-1] == "  wrong 20"
    assert len(page) == 44
    assert len(list(findings.shown(everything=True))) == 523
    assert list(Findings().shown(everything=False)) == []
