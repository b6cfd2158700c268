import os
from pathlib import Path

import pytest

from tests.train.inference.stored_images import SPEC, Make, pixels, save
from train.__main__ import main


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
    for said in ("restored", "there already"):
        assert main(["restore", str(checkpoint(SPEC)), given, "--output=."]) == 0
        assert capsys.readouterr().out.count(f": {said}\n") == 2
        assert pngs(tmp_path) == ["a.png", "below/b.png", "photos/a.png", "photos/below/b.png"]


@pytest.mark.parametrize(
    ("given", "output"), [("photos", "photos"), (".", "."), ("photos/*.png", "photos"), ("photos", "photos/below/..")]
)
def test_results_do_not_replace_the_photographs(
    checkpoint: Make, photos: Path, capsys, given: str, output: str
) -> None:
    assert main(["restore", str(checkpoint(SPEC)), given, f"--output={output}"]) == 2
    assert "The results would replace the inputs: --output " in capsys.readouterr().err
    assert sorted(os.listdir(photos)) == ["a.png", "below"]
