import shutil
import sqlite3
from collections import Counter

import numpy as np
import pytest

from train.__main__ import main
from train.data.images import write_image
from train.study.study_file import FILE_NAME


def create(folder, *flags):
    return main(["study", "create", str(folder), *map(str, flags)])


def test_what_is_written(study):
    with sqlite3.connect(study / FILE_NAME) as file:
        lengths = {row[0] for row in file.execute("SELECT length(png) FROM pictures")}
        assert len(lengths) == 1
        tokens = [
            token
            for row in file.execute(
                "SELECT token, left_token, right_token, clean_token FROM trials"
            )
            for token in row
        ]
        assert len(set(tokens)) == len(tokens)  # no two addresses are equal
        assert all(len(token) >= 22 for token in tokens)  # 128 bits
        shown = file.execute("SELECT clean_picture FROM trials WHERE clean_picture NOT NULL")
        assert shown.fetchall() == []  # the clean photograph is for fidelity
        (content,) = file.execute("SELECT content FROM about").fetchone()
    assert '"seed": 3' in content and '"names": ["a", "b"]' in content


def test_every_two_of_three_sets_are_shown(make_study, folders):
    folder = make_study("--c", str(folders / "c"), "--observers", "2")
    with sqlite3.connect(folder / FILE_NAME) as file:
        (content,) = file.execute("SELECT content FROM about").fetchone()
        rows = file.execute("SELECT place, left_name, right_name FROM trials WHERE kind = 'pair'")
        seen = Counter((place, "".join(sorted(sides))) for place, *sides in rows)
    assert '"names": ["a", "b", "c"], "sets": ["a", "b", "c"]' in content
    assert seen == {(place, two): 12 for place in (0, 1) for two in ("ab", "ac", "bc")}


def test_a_long_session_is_announced(folders, tmp_path, capsys):
    flags = ["--a", folders / "a", "--b", folders / "b", "--votes-per-pair"]
    assert create(tmp_path / "short", *flags, 9) == 0
    assert "half an hour" not in capsys.readouterr().out
    assert create(tmp_path / "long", *flags, 12) == 0
    assert "176 pairs take more than half an hour" in capsys.readouterr().out


def test_the_addresses_do_not_come_from_the_seed(make_study, folders, tmp_path):
    flags = ("--a", folders / "a", "--b", folders / "b", "--seed", 3)
    tokens = []
    for name in ("one", "two"):
        assert create(tmp_path / name, *flags) == 0
        with sqlite3.connect(tmp_path / name / FILE_NAME) as file:
            tokens.append(file.execute("SELECT token FROM trials").fetchall())
            sides = file.execute("SELECT kind, photograph, left_name FROM trials").fetchall()
            tokens.append(sides)
    assert tokens[0] != tokens[2]
    assert tokens[1] == tokens[3]  # and the seed decides the rest


def test_a_study_is_never_overwritten(study, folders, capsys):
    before = (study / FILE_NAME).read_bytes()
    assert create(study, "--a", folders / "a", "--b", folders / "b") == 2
    assert "holds a study already" in capsys.readouterr().err
    assert (study / FILE_NAME).read_bytes() == before


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ((), "needs two folders"),
        (("--a", "{0}/a"), "needs two folders"),
        (("--a", "{0}/a", "--b", "{0}/nowhere"), "no folder"),
        (("--a", "{0}/a", "--b", "{0}/b", "--task", "fidelity"), "--clean"),
        (("--a", "{0}/a", "--b", "{0}/b", "--input", "{0}/input"), "--clean"),
        (("--a", "{0}/a", "--b", "{0}/a"), "p00 is identical in A ("),
        (("--a", "{0}/a", "--b", "{0}/b", "--c", "{0}/b"), "p00 is identical in B ("),
        (("--a", "{0}/a", "--b", "{0}/b", "--d", "{0}/c"), "--d is given, but --c is not"),
        (
            ("--a", "{0}/a", "--b", "{0}/b", "--c", "{0}/c", "--stop", "sequential"),
            "--stop sequential is for two sets",
        ),
        (("--a", "{0}/a", "--b", "{0}/b", "--crop", "3"), "--crop must be at least 64"),
        (("--a", "{0}/a", "--b", "{0}/b", "--observers", "0"), "--observers must be at least 1"),
        (("--a", "{0}/a", "--b", "{0}/b", "--question", "a\nb"), "--question must be one line"),
        (("--a", "{0}/a", "--b", "{0}/b", "--seed", "-1"), "--seed must be at least 0"),
    ],
)
def test_what_cannot_be_used_is_said(flags, message, folders, tmp_path, capsys):
    given = [flag.format(folders) for flag in flags]
    assert create(tmp_path / "study", *given) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "study" / FILE_NAME).exists()


def test_everything_that_does_not_fit_is_listed(folders, tmp_path, capsys):
    other = tmp_path / "other"
    shutil.copytree(folders / "b", other)
    (other / "p03.png").rename(other / "new.png")
    (other / "p05.png").unlink()
    assert create(tmp_path / "study", "--a", folders / "a", "--b", other) == 2
    said = capsys.readouterr().err
    for each in ("new is missing from --a", "p03 is missing from --b", "p05 is missing from --b"):
        assert each in said


def test_damage_and_sizes_are_listed_together(folders, tmp_path, capsys):
    other = tmp_path / "other"
    shutil.copytree(folders / "b", other)
    write_image(other / "p01.png", np.zeros((70, 80, 3), np.uint8))
    (other / "p02.png").write_bytes((other / "p02.png").read_bytes()[:100])
    assert create(tmp_path / "study", "--a", folders / "a", "--b", other) == 2
    said = capsys.readouterr().err
    assert "p01 has different sizes: --a 80x72, --b 80x70" in said
    assert "p02.png" in said
    assert not (tmp_path / "study" / FILE_NAME).exists()


def test_endings_do_not_matter_and_two_of_a_name_are_refused(folders, tmp_path, capsys):
    other = tmp_path / "other"
    shutil.copytree(folders / "b", other)
    (other / "p01.png").unlink()
    write_image(other / "p01.tif", np.zeros((72, 80, 3), np.uint8))
    assert create(tmp_path / "study", "--a", folders / "a", "--b", other) == 0
    write_image(other / "p01.bmp.png", np.zeros((72, 80, 3), np.uint8))
    write_image(other / "p01.png", np.zeros((72, 80, 3), np.uint8))
    assert create(tmp_path / "second", "--a", folders / "a", "--b", other) == 2
    assert "several photographs named p01" in capsys.readouterr().err


def test_few_photographs_are_said_to_give_no_verdict(folders, tmp_path, capsys):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        for photograph in ("p00.png", "p01.png"):
            shutil.copy(folders / name / photograph, tmp_path / name / photograph)
    assert create(tmp_path / "study", "--a", tmp_path / "a", "--b", tmp_path / "b") == 0
    said = capsys.readouterr().out
    assert "2 photographs are too few for a verdict" in said and "At least 10 are needed" in said
    assert "Add photographs to the sets" in said
    (tmp_path / "a" / "p01.png").unlink()
    (tmp_path / "b" / "p01.png").unlink()
    assert create(tmp_path / "one", "--a", tmp_path / "a", "--b", tmp_path / "b") == 2
    assert "at least 2 photographs" in capsys.readouterr().err


def test_more_photographs_than_people_can_vote_on_are_refused(
    folders, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr("train.study.create.MOST_PHOTOGRAPHS", 11)
    assert create(tmp_path / "study", "--a", folders / "a", "--b", folders / "b") == 2
    assert "at most 11 photographs; the sets have 12" in capsys.readouterr().err
    assert not (tmp_path / "study" / FILE_NAME).exists()
