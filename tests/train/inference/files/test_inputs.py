import os
from pathlib import Path

import pytest

from tests.train.inference.stored_images import SPEC, Make, pixels, save
from train.__main__ import main
from train.errors import InputError
from train.inference.files import inputs
from train.inference.files.inputs import Job, check_case, check_links, find_inputs


@pytest.fixture
def photos(tmp_path: Path, monkeypatch) -> Path:
    for name in ("a.png", "below/b.png"):
        save(tmp_path / "photos" / name, pixels((8, 8, 3)))
    monkeypatch.chdir(tmp_path)
    return tmp_path / "photos"


def pngs(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.png"))


@pytest.mark.parametrize("given", ["photos", "photos/**/*.png"])
def test_results_may_go_above_the_folder_of_the_photographs(
    checkpoint: Make, photos: Path, tmp_path: Path, capsys, given: str
) -> None:
    for said in ("restored", "already done"):
        assert main(["restore", str(checkpoint(SPEC)), given, "--output=."]) == 0
        assert capsys.readouterr().out.count(f": {said}\n") == 2
        assert pngs(tmp_path) == ["a.png", "below/b.png", "photos/a.png", "photos/below/b.png"]


@pytest.mark.parametrize(
    ("given", "output"),
    [("photos", "photos"), (".", "."), ("photos/*.png", "photos"), ("photos", "photos/below/..")],
)
def test_results_do_not_replace_the_photographs(
    checkpoint: Make, photos: Path, capsys, given: str, output: str
) -> None:
    assert main(["restore", str(checkpoint(SPEC)), given, f"--output={output}"]) == 2
    assert "which is one of the inputs. Choose a different folder" in capsys.readouterr().err
    assert sorted(os.listdir(photos)) == ["a.png", "below"]


@pytest.mark.parametrize(
    ("given", "made"),
    [
        ("photos [2019]/*.png", ["a.png"]),
        ("photos [2019]/**/*.png", ["a.png", "below [x]/b.png"]),
        ("photos [2019]/*/b.png", ["below [x]/b.png"]),
        ("photos [2019]/below [x]/?.png", ["b.png"]),
        ("photos ?2019?/below [x]/*.png", ["photos [2019]/below [x]/b.png"]),
        ("photos [2019]/IMG*[1].jpe", ["IMG_2[1].jpe"]),
        ("*/[ab].png", ["photos [2019]/a.png"]),
        ("**/*.png", ["photos [2019]/a.png", "photos [2019]/below [x]/b.png"]),
        (
            "**",
            ["photos [2019]/IMG_2[1].jpe", "photos [2019]/a.png", "photos [2019]/below [x]/b.png"],
        ),
    ],
)
def test_a_pattern_finds_folders_with_brackets_in_their_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: str, made: list[str]
) -> None:
    for name in ("a.png", "below [x]/b.png", "IMG_2[1].jpe", ".hidden/c.png", "out/d.png"):
        path = tmp_path / "photos [2019]" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    (tmp_path / "photos [2019]" / "below [x]" / "loop").symlink_to(tmp_path / "photos [2019]")
    monkeypatch.chdir(tmp_path)
    output = tmp_path / "photos [2019]" / "out"
    jobs = find_inputs([given], output).jobs
    assert sorted(job.target.relative_to(output).as_posix() for job in jobs) == made


def test_a_photograph_with_several_names_is_restored_once(tmp_path: Path) -> None:
    """Links are followed."""
    photos, away = tmp_path / "photos", tmp_path / "away"
    for folder, name in ((photos, "b.png"), (away, "c.png")):
        folder.mkdir()
        (folder / name).touch()
    (photos / "a.png").symlink_to("b.png")
    os.link(photos / "b.png", photos / "z.png")
    (photos / "linked").symlink_to(away)
    (photos / "gone.png").symlink_to(tmp_path / "nowhere.png")
    (photos / "lost").symlink_to(tmp_path / "nowhere")
    for name in ("d.heic", "e.heic", "f.json"):
        (photos / name).touch()
    found = find_inputs([str(photos), str(photos / "b.png")], tmp_path / "out")
    assert [job.target.relative_to(tmp_path / "out").as_posix() for job in found.jobs] == [
        "b.png",
        "linked/c.png",
    ]
    assert found.others == {".heic": 2, ".json": 1}
    assert found.notes == [
        f"{photos / 'lost'} is a link to {tmp_path / 'nowhere'}, which does not exist",
        f"{photos / 'a.png'} is the same file as {photos / 'b.png'}, so it is restored only once, "
        "under that name",
        f"{photos / 'z.png'} is the same file as {photos / 'b.png'}, so it is restored only once, "
        "under that name",
    ]
    assert found.failures == [
        f"{photos / 'gone.png'} is a link to {tmp_path / 'nowhere.png'}, which cannot be reached."
    ]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("", "'' is not the name"),
        ("notes", "notes is not a PNG, JPEG, TIFF, BMP or WebP file. Convert it, or leave it out"),
        ("a\0b", "is not the name"),
        ("gone.png", "is a link to nowhere.png, which cannot be reached"),
        ("*.heic", "1 .heic file was skipped"),
        ("only", "only holds no photographs: .*; 1 .heic file was skipped"),
    ],
)
def test_what_names_no_photograph_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: str, message: str
) -> None:
    (tmp_path / "only").mkdir()
    for name in ("a.heic", "only/a.heic", "notes"):
        (tmp_path / name).touch()
    (tmp_path / "gone.png").symlink_to("nowhere.png")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=message):
        find_inputs([given], tmp_path / "out")


def test_a_named_file_that_is_no_photograph_does_not_stop_others(
    checkpoint: Make, photos: Path, capsys
) -> None:
    """A shell expands ``photos/*`` to photographs and the files next to them."""
    (photos / "a.png.json").write_text("{}")
    save(photos / "c.png", pixels((8, 8, 3))).rename(photos / "c")
    given = [f"photos/{name}" for name in ("a.png", "a.png.json", "c")]
    assert main(["restore", str(checkpoint(SPEC)), *given, "--output=out"]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert "photos/a.png -> out/a.png: restored" in lines
    assert (
        "photos/c -> out/c: restored; whatever its name says, this file is a PNG, and so is the "
        "restored file" in lines
    )
    assert lines[-2:] == [
        "2 of 2 photographs are in out",
        "not restored: photos/a.png.json is not a PNG, JPEG, TIFF, BMP or WebP file. Convert it, "
        "or leave it out.",
    ]
    assert not (photos.parent / "out" / "a.png.json").exists()


def test_a_command_that_names_no_photograph_is_an_error(
    checkpoint: Make, photos: Path, capsys
) -> None:
    assert main(["restore", str(checkpoint(SPEC)), "--output=out"]) == 2
    assert "There is nothing to restore" in capsys.readouterr().err


def test_skipped_files_are_counted_at_the_end(checkpoint: Make, photos: Path, capsys) -> None:
    for name in ("a.heic", "b.heic", "two\nlines.txt"):
        (photos / name).touch()
    (photos / "gone.png").symlink_to("nowhere.png")
    save(photos / "c.png", pixels((8, 8, 3))).rename(photos / "c.jfif")
    assert main(["restore", str(checkpoint(SPEC)), "photos", "--output=out"]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[-3].startswith("3 of 3 photographs are in")
    assert lines[-2] == "2 .heic files and 1 .txt file were skipped"
    assert (
        lines[-1]
        == "not restored: photos/gone.png is a link to nowhere.png, which cannot be reached."
    )


def test_names_that_differ_in_case_need_a_file_system_for_both(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs = [
        Job(tmp_path / name, tmp_path / "out" / name) for name in ("b/a.png", "b/A.PNG", "c/a.png")
    ]
    (tmp_path / "out").mkdir()
    check_case(jobs, tmp_path / "out")
    assert os.listdir(tmp_path / "out") == []
    monkeypatch.setattr(inputs, "ignores_case", lambda folder: True)
    with pytest.raises(
        InputError, match=r"b/a\.png and .*b/A\.PNG would be written to the same file"
    ):
        check_case(jobs, tmp_path / "out")
    check_case(jobs[1:], tmp_path / "out")


def test_nothing_is_written_through_a_link_in_the_output(tmp_path: Path, capsys) -> None:
    output, elsewhere = tmp_path / "out", tmp_path / "elsewhere"
    output.mkdir()
    elsewhere.mkdir()
    (output / "holiday").symlink_to(elsewhere, target_is_directory=True)
    job = Job(tmp_path / "a.png", output / "holiday" / "2020" / "a.png")
    with pytest.raises(InputError, match="leads out of --output .* through a link, to .*elsewhere"):
        check_links([job], output)
    save(tmp_path / "in" / "holiday" / "a.png", pixels((8, 8, 3)))
    assert main(["restore", str(tmp_path / "in"), "--output", str(output)]) == 2
    assert "through a link, to" in capsys.readouterr().err
    (tmp_path / "link").symlink_to(output, target_is_directory=True)
    check_links([Job(tmp_path / "a.png", tmp_path / "link" / "b" / "a.png")], tmp_path / "link")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="named pipes do not exist here")
def test_a_pattern_skips_pipes(tmp_path: Path) -> None:
    save(tmp_path / "in" / "a.png", pixels((8, 8, 3)))
    os.mkfifo(tmp_path / "in" / "b.png")
    for pattern in ("*.png", "**/*.png"):
        found = find_inputs([str(tmp_path / "in" / pattern)], tmp_path / "out")
        assert [job.source.name for job in found.jobs] == ["a.png"]
