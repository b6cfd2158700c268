from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from train.data.datasets import pick_features
from train.data.images import write_image
from train.data.sources import list_source
from train.data.wildcards import Glob
from train.errors import InputError


@pytest.mark.parametrize(
    ("glob", "name", "matched"),
    [
        ("*_low.*", "a/b/7_low.png", "a/b/7"),
        ("low/*.png", "low/7.png", "7"),
        ("low/*.png", "high/7.png", None),
        ("low/*", "low/deep/7.png", None),
        ("*/low/*.*", "a/low/7.jpg", "a_7"),
        ("*-*.png", "a-b-c.png", "a-b_c"),  # the first one matches as much as possible
        ("?*.png", "7.png", ""),
        ("[ab]*.png", "c1.png", None),
        ("[ab]*.png", "b1.png", "1"),
        ("[*.png", "[1.png", "1"),  # an open bracket matches itself
        ("[z-a]*", "z1", None),
        ("*.*", "noending", None),
        ("*.*", "a.b/c", None),
        ("(*)+", "(1)+", "1"),
    ],
)
def test_what_the_asterisks_of_a_glob_stand_for(glob: str, name: str, matched: str | None) -> None:
    assert Glob(glob).match(name) == matched


def test_a_glob_of_many_asterisks_ends() -> None:
    assert Glob("*a" * 90 + "*b").match("a" * 250) is None
    assert Glob("*a" * 90 + "*b").match("a" * 250 + "b") == "a" * 160 + "_" * 90
    with pytest.raises(InputError, match="has 101 asterisks, and at most 99 are"):
        Glob("*a" * 101)


@pytest.mark.parametrize(
    "query",
    [
        "",
        "input=*a.png",
        "input=*a.png&target=",
        "input=*a.png&target=*b.png&target=*c.png",
        "input=*a.png&input=*b.png",
        "input=*a.png&target=*b.png&extra=1",
        "input=a.*&target=b.*",
        "&&&",
        "=",
    ],
)
def test_odd_queries_are_one_sentence(query: str, tmp_path: Path) -> None:
    write_image(tmp_path / "1a.png", np.zeros((4, 4, 3), np.uint8))
    with pytest.raises(InputError, match=r'must continue with "input=GLOB&target=GLOB"'):
        list_source(f"pairs:{tmp_path}?{query}", "train")


@pytest.mark.parametrize("query", ["target=a&target=b", "input=a", "target=", "target=a&x=b", ""])
def test_so_are_those_of_data_sets(query: str) -> None:
    builder = SimpleNamespace(info=SimpleNamespace(features={"a": 0, "b": 0}))
    with pytest.raises(InputError, match='write "target=FEATURE"'):
        pick_features(builder, query, "x:train")


@pytest.mark.parametrize(
    "kind", ["folder:{}", "pairs:{}", "pairs:{},{}", "pairs:{}?input=*a&target=*b", "tfds:{}:train"]
)
@pytest.mark.parametrize(
    "path", ["a\0b", "a" * 300, "a/" * 2100, "a," * 2000, "\ud800", "x" * 20_000]
)
def test_paths_that_no_system_has_are_one_sentence(kind: str, path: str) -> None:
    with pytest.raises(InputError):
        list_source(kind.format(path, path), "train")


def test_many_files_of_one_name_are_counted(tmp_path: Path) -> None:
    for ending in ("png", "jpg", "jpeg", "tif", "tiff", "webp"):
        write_image(tmp_path / f"1a.{ending}", np.zeros((4, 4, 3), np.uint8))
        write_image(tmp_path / f"1b.{ending}", np.zeros((4, 4, 3), np.uint8))
    listing = list_source(f"pairs:{tmp_path}?input=*a.*&target=*b.*", "train")
    (mismatch,) = listing.mismatches
    assert mismatch.count("1a.") == 4 and "and 2 more would belong" in mismatch
