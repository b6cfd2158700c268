import os
from collections import Counter
from pathlib import Path

import pytest

from train.data import walk as walking
from train.data.folders import list_folder, list_pairs
from train.data.walk import describe_skipped, in_one_line, walk
from train.errors import InputError


def touch(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


def names(folder: Path, **options: Path) -> list[str]:
    return [path.relative_to(folder).as_posix() for path in walk(folder, **options).photographs]


def test_the_order_is_that_of_paths_part_by_part(tmp_path: Path) -> None:
    touch(
        tmp_path,
        "b/a.png",
        "b-c/a.png",
        "b.png",
        "B.PNG",
        "a/z/y.tif",
        "a/b.webp",
        "ü.jpg",
        "a b/c.bmp",
    )
    assert names(tmp_path) == [
        path.relative_to(tmp_path).as_posix()
        for path in sorted(tmp_path.rglob("*"))
        if path.is_file()
    ]


def test_every_ending_of_a_photograph_is_accepted(tmp_path: Path) -> None:
    touch(
        tmp_path,
        *(f"a.{ending}" for ending in ("jpg", "jpeg", "jpe", "jfif", "JFIF", "tif", "png")),
    )
    found = walk(tmp_path)
    assert len(found.photographs) == 7 and not found.other_files


def test_a_linked_folder_is_read_once_under_its_own_path(tmp_path: Path) -> None:
    touch(tmp_path / "away", "x.png", "deep/y.png")
    touch(tmp_path / "here", "own/z.png")
    (tmp_path / "here" / "a").symlink_to(tmp_path / "here" / "own")
    (tmp_path / "here" / "b").symlink_to(tmp_path / "away")
    (tmp_path / "here" / "c").symlink_to(tmp_path / "away" / "deep")
    found = walk(tmp_path / "here")
    assert names(tmp_path / "here") == ["b/deep/y.png", "b/x.png", "own/z.png"]
    here = tmp_path / "here"
    assert sorted(found.links) == [
        f"{here / 'a'} is the same folder as {here / 'own'}, so it was read only once, "
        "under that name",
        f"{here / 'c'} is the same folder as {here / 'b' / 'deep'}, so it was read only once, "
        "under that name",
    ]


@pytest.mark.parametrize("target", [".", "..", "../.."])
def test_a_loop_of_links_ends(tmp_path: Path, target: str) -> None:
    touch(tmp_path, "photos/below/a.png", "photos/b.png", "outside.png")
    (tmp_path / "photos" / "below" / "loop").symlink_to(tmp_path / "photos" / "below" / target)
    (tmp_path / "photos" / "below" / "itself").symlink_to("itself")
    found = walk(tmp_path / "photos")
    assert names(tmp_path / "photos") == ["b.png", "below/a.png"]
    assert len(found.links) == 2


def test_the_folder_may_be_a_link_itself(tmp_path: Path) -> None:
    touch(tmp_path / "away", "x.png")
    (tmp_path / "link").symlink_to(tmp_path / "away")
    assert names(tmp_path / "link") == ["x.png"]
    assert walk(tmp_path / "link").notes == []


def test_hidden_photographs_are_counted_but_not_system_files(tmp_path: Path) -> None:
    touch(tmp_path, "a.png", "._a.png", ".DS_Store", ".thumbnails/a.png", "below/.b.JPG")
    found = walk(tmp_path)
    assert [path.name for path in found.photographs] == ["a.png"]
    assert found.notes == ["1 photograph whose name begins with a dot was skipped"]
    touch(tmp_path, ".png")
    assert (
        list_folder(tmp_path).skipped == "2 photographs whose names begin with a dot were skipped"
    )
    (tmp_path / "a.png").unlink()
    with pytest.raises(
        InputError, match="holds no photographs: .*; 2 photographs whose names begin with a dot"
    ):
        list_folder(tmp_path)


def test_second_names_and_links_to_nothing_are_said(tmp_path: Path) -> None:
    touch(tmp_path, "b.png", "c.png")
    (tmp_path / "a.png").symlink_to("b.png")
    os.link(tmp_path / "c.png", tmp_path / "d.png")
    (tmp_path / "e.png").symlink_to("gone.png")
    (tmp_path / "train").symlink_to("/mnt/not mounted")
    found = walk(tmp_path)
    assert [path.name for path in found.photographs] == [
        "a.png",
        "b.png",
        "c.png",
        "d.png",
        "e.png",
    ]
    assert found.notes == [
        f"{tmp_path / 'train'} is a link to /mnt/not mounted, which does not exist",
        f"{tmp_path / 'a.png'} is the same file as {tmp_path / 'b.png'}",
        f"{tmp_path / 'd.png'} is the same file as {tmp_path / 'c.png'}",
    ]
    assert set(list_folder(tmp_path).notes) == set(found.notes)


def test_a_folder_that_cannot_be_read_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    touch(tmp_path, "a.png", "closed/b.png")
    scandir = os.scandir

    def refuse(path: Path) -> object:
        if Path(path).name == "closed":
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr(walking.os, "scandir", refuse)
    assert walk(tmp_path).unreadable == [f"{tmp_path / 'closed'} cannot be read: Permission denied"]
    assert "closed cannot be read: Permission denied" in list_folder(tmp_path).skipped
    with pytest.raises(
        InputError, match="holds no photographs: .*closed cannot be read: Permission denied"
    ):
        list_folder(tmp_path / "closed")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="has no pipes with names")
def test_a_pipe_named_like_a_photograph_does_not_block(tmp_path: Path) -> None:
    touch(tmp_path, "a.png")
    os.mkfifo(tmp_path / "b.png")
    os.mkfifo(tmp_path / "pipe")
    assert names(tmp_path) == ["a.png"]
    assert walk(tmp_path).notes == [f"{tmp_path / 'b.png'} is not an ordinary file and was skipped"]


def test_a_folder_may_be_left_out(tmp_path: Path) -> None:
    touch(tmp_path, "a.png", "out/b.png")
    assert names(tmp_path, without=tmp_path / "out" / ".." / "out") == ["a.png"]
    assert names(tmp_path, without=tmp_path) == ["a.png", "out/b.png"]
    assert names(tmp_path, without=tmp_path / "none") == ["a.png", "out/b.png"]


def test_names_may_hold_what_a_file_system_allows(tmp_path: Path) -> None:
    odd = [
        "two\nlines.png",
        "tab\t.png",
        "-rf.png",
        " .png",
        "[a].png",
        "*.png",
        "a" * 251 + ".png",
        "\udcff.png",
    ]
    touch(tmp_path, *odd)
    assert sorted(names(tmp_path)) == sorted(odd)


def test_other_files_are_counted_in_words() -> None:
    assert describe_skipped(Counter({".heic": 12})) == "12 .heic files were skipped"
    assert describe_skipped(Counter({".heic": 12, ".txt": 1, "": 2, ".dng": 2})) == (
        "12 .heic files, 2 files without an ending, 2 .dng files and 1 .txt file were skipped"
    )
    assert describe_skipped(Counter({"": 1})) == "1 file without an ending was skipped"
    assert describe_skipped(Counter()) == ""
    assert in_one_line([str(i) for i in range(12)]) == "0; 1; 2; 3; 4; 5; 6; 7; 8; 9; 2 more notes"


def test_pairs_follow_links_and_may_share_a_target(tmp_path: Path) -> None:
    touch(tmp_path / "disk", "low/1.png", "low/2.png", "high/1.png")
    (tmp_path / "low").symlink_to(tmp_path / "disk" / "low")
    (tmp_path / "high").mkdir()
    (tmp_path / "high" / "set").symlink_to(tmp_path / "disk" / "high")
    (tmp_path / "low2" / "set").mkdir(parents=True)
    for name in ("1.png", "2.png"):
        (tmp_path / "low2" / "set" / name).symlink_to(tmp_path / "low" / name)
    # Two noisy photographs share a clean one
    (tmp_path / "disk" / "high" / "2.png").symlink_to("1.png")
    listing = list_pairs(f"{tmp_path}/low2,{tmp_path}/high")
    assert listing.names == ("set/1", "set/2") and not listing.mismatches
    assert (
        listing.skipped
        == f"{tmp_path}/high/set/2.png is the same file as {tmp_path}/high/set/1.png"
    )
