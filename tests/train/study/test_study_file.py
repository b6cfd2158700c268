import os
import resource
import sqlite3

import pytest

from tests.train.study.conftest import side_of
from train.__main__ import main
from train.errors import InputError
from train.study.picture_files import without_padding
from train.study.score import PAGE
from train.study.study_checks import check_png
from train.study.study_file import FILE_NAME, open_study, read_about, reading, write_study
from train.study.votes import Votes


def changed(study, *statements):
    with sqlite3.connect(study / FILE_NAME) as file:
        for statement in statements:
            file.execute(statement)
    file.close()


@pytest.mark.parametrize(
    ("statements", "message"),
    [
        (["PRAGMA user_version=0"], "different version"),
        (["PRAGMA user_version=2"], "different version"),
        (["PRAGMA application_id=0"], "was not written by"),
        (["CREATE VIEW v AS SELECT 1"], "does not have the tables"),
        (["CREATE TABLE more (x)"], "does not have the tables"),
        (
            ["CREATE TRIGGER t AFTER INSERT ON votes BEGIN DELETE FROM votes; END"],
            "does not have the tables",
        ),
        (["DROP TABLE scores"], "does not have the tables"),
        (
            [
                "PRAGMA writable_schema=ON",
                # Python cannot decode what SQLite says about it.
                "UPDATE sqlite_schema SET sql = CAST(x'435245b1' AS TEXT) WHERE name = 'scores'",
            ],
            "cannot be read as a study",
        ),
        (["DROP INDEX one_vote"], "does not have the tables"),
        (["DELETE FROM about"], "content must be an object"),
        (["UPDATE about SET content = '{'"], "not JSON"),
        (["UPDATE about SET content = json_set(content, '$.more', 1)"], "unknown key"),
        (["UPDATE about SET content = json_set(content, '$.names', json('[]'))"], "do not fit"),
        (
            [
                "UPDATE about SET content = json_set(content, '$.names', json('[\"a\"]'), "
                "'$.sets', json('[\"a\"]'), '$.digests', json('[\"\"]'))"
            ],
            "sets do not fit",
        ),
        (["UPDATE about SET content = '{}'"], "id is missing"),
        (["UPDATE about SET content = json_set(content, '$.question', 'a\nb')"], "its question"),
        (
            ["UPDATE about SET content = json_set(content, '$.question', printf('%301d', 1))"],
            "its question",
        ),
        (
            ["UPDATE about SET content = json_set(content, '$.observers', 201)"],
            "1 to 200 observers",
        ),
        (["UPDATE about SET content = json_set(content, '$.votes_per_pair', 0)"], "1 to 20 votes"),
        (["UPDATE photographs SET name = 'p'"], "with different names"),
        (
            [
                "WITH RECURSIVE n(i) AS (SELECT 12 UNION ALL SELECT i + 1 FROM n WHERE i < 5000) "
                "INSERT INTO photographs SELECT i, i FROM n"
            ],
            "at most 5,000 photographs",
        ),
        (["UPDATE about SET content = json_set(content, '$.sets[1]', 'a')"], "sets do not fit"),
        (["UPDATE about SET content = json_set(content, '$.id', 'a=b; c')"], "not one of a study"),
        (["UPDATE about SET content = json_set(content, '$.observers', 4)"], "pairs do not fit"),
        (["UPDATE about SET content = json_set(content, '$.obvious[0]', 'a')"], "pairs do not fit"),
        (
            [
                "UPDATE about SET content = json_set(content, '$.obvious', json('[]'))",
                "DELETE FROM trials WHERE kind = 'obvious'",
            ],
            "pairs do not fit",
        ),
        (["UPDATE trials SET left_name = 'none' WHERE kind = 'pair'"], "pairs do not fit"),
        (["UPDATE trials SET left_name = right_name WHERE kind = 'pair'"], "pairs do not fit"),
    ],
)
def test_a_file_that_somebody_changed_is_refused(study, statements, message, capsys):
    changed(study, *statements)
    for verb in ("score", "serve"):  # A study that is not refused would be served for ever.
        assert main(["study", verb, str(study)]) == 2
        assert message in capsys.readouterr().err


def test_a_trigger_with_a_name_of_sqlites_own_is_found(study):
    """SQLite forbids such names, but runs what it finds under them in a file."""
    trigger = "TRIGGER {} AFTER INSERT ON votes BEGIN UPDATE votes SET choice = 'left'; END"
    changed(
        study,
        f"CREATE {trigger.format('t')}",
        "PRAGMA writable_schema=ON",
        "UPDATE sqlite_schema SET name = 'sqlite_t', "
        f"sql = 'CREATE {trigger.format('sqlite_t').replace(chr(39), 2 * chr(39))}' "
        "WHERE name = 't'",
    )
    with pytest.raises(InputError, match="does not have the tables"):
        Votes(study)


@pytest.mark.parametrize("ending", ["-wal", "-shm", "-journal"])
@pytest.mark.parametrize("make", [os.link, os.symlink, lambda victim, path: os.mkfifo(path)])
def test_files_that_sqlite_would_write_to_are_no_links(study, tmp_path, ending, make):
    victim = tmp_path / "thesis.txt"
    victim.write_text("years of work " * 3000)
    make(victim, study / f"{FILE_NAME}{ending}")
    with pytest.raises(InputError, match="is a link, or not a file"):
        open_study(study, write=True)
    assert victim.read_text() == "years of work " * 3000


@pytest.mark.parametrize("make", [os.link, os.symlink])
def test_votes_are_not_written_to_a_study_elsewhere(study, tmp_path, make):
    make(study / FILE_NAME, tmp_path / FILE_NAME)
    with pytest.raises(InputError, match="is a link, or not a file"):
        open_study(tmp_path, write=True)


def test_no_vote_is_added_after_a_gap(robots):
    robots.observe(lambda kind, left, right, photograph: "left", most=8)
    robots.votes.close()
    changed(robots.folder, "DELETE FROM votes WHERE position = 3")
    with pytest.raises(InputError, match="lacks votes between others"):
        Votes(robots.folder)


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE trials SET left_name = x'00ff' WHERE position = 0",
        "UPDATE trials SET photograph = 'text' WHERE position = 3",
        "UPDATE trials SET photograph = 99 WHERE position = 3",
        "UPDATE trials SET left_picture = -1 WHERE position = 3",
        "UPDATE trials SET kind = 'more' WHERE position = 3",
        "UPDATE trials SET position = 9223372036854775807 WHERE position = 3",
        "UPDATE photographs SET name = x'00'",
        "UPDATE photographs SET number = -5 WHERE number = 0",
        "UPDATE pictures SET png = 'text' WHERE number = 0",
        "UPDATE observers SET conditions = x'00'",
        "UPDATE observers SET place = 77",
        "UPDATE votes SET choice = 'both'",
        "UPDATE votes SET milliseconds = 'soon'",
        "UPDATE votes SET milliseconds = 9e999",
        "UPDATE votes SET zoomed = 7",
        "UPDATE votes SET time = 'now'",
        "UPDATE votes SET place = 2 WHERE position = 0",
    ],
)
def test_values_that_no_study_has_are_refused(robots, statement, capsys):
    robots.observe(lambda kind, left, right, photograph: "left", most=8)
    robots.votes.close()
    changed(robots.folder, statement)
    for verb in ("score", "serve"):  # A study that is not refused would be served for ever.
        assert main(["study", verb, str(robots.folder)]) == 2
        assert "holds values that no study has" in capsys.readouterr().err


def test_text_that_is_damaged_is_shown_as_such(robots):
    """A flipped bit can leave bytes that are not text."""
    robots.observe(lambda kind, *sides: side_of("clean" if kind == "obvious" else "a", sides[0]))
    robots.votes.close()
    changed(
        robots.folder,
        "UPDATE photographs SET name = CAST(x'70b1' AS TEXT) WHERE number = 3",
        "UPDATE trials SET token = CAST(x'70b1' AS TEXT) WHERE place = 1 AND position = 0",
    )
    assert main(["study", "score", str(robots.folder)]) == 0
    assert '<th scope="row">p\ufffd</th>' in (robots.folder / PAGE).read_text("utf-8")
    votes = Votes(robots.folder)
    assert votes.shown(1).trial == "p\ufffd"
    votes.close()


def test_what_is_no_study_is_refused(tmp_path, study):
    with pytest.raises(InputError, match="there is no study.sqlite"):
        open_study(tmp_path)
    (tmp_path / FILE_NAME).write_bytes(b"")
    with pytest.raises(InputError, match="not a file of a study"):
        open_study(tmp_path)
    whole = (study / FILE_NAME).read_bytes()
    (tmp_path / FILE_NAME).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError):
        open_study(tmp_path)


def test_schemas_of_others_are_not_trusted(study):
    with reading(study) as file:
        assert file.execute("PRAGMA trusted_schema").fetchone()[0] == 0
    with open_study(study, write=True) as file:
        assert file.execute("PRAGMA journal_mode").fetchone()[0] == "wal"
        assert file.execute("PRAGMA synchronous").fetchone()[0] == 2  # FULL
    file.close()


def test_the_rules_of_exclusion_are_in_the_file(study):
    rules = "'$.most_on_one_side', '$.fewest_for_sides'"
    with reading(study) as file:
        row = file.execute(f"SELECT json_extract(content, {rules}) FROM about").fetchone()
        assert row[0] == "[0.9,20]"
        about = read_about(file, study)
    # Studies that were made before the rules were written down had the same ones.
    changed(study, f"UPDATE about SET content = json_remove(content, {rules})")
    with reading(study) as file:
        assert read_about(file, study) == about


def test_pictures_are_bounded(study):
    with reading(study) as file:
        png = file.execute("SELECT png FROM pictures").fetchone()["png"]
    assert check_png(png) == (80, 72)
    with pytest.raises(InputError, match="not a PNG"):
        check_png("text")
    with pytest.raises(InputError, match="not a PNG"):
        check_png(b"<svg/>")
    with pytest.raises(InputError, match="not a PNG"):
        check_png(png[:20])
    with pytest.raises(InputError, match="cut off"):
        without_padding(png[:-13])
    huge = png[:16] + b"\x00\x01\x00\x00" * 2 + png[24:]
    with pytest.raises(InputError, match="65536 x 65536 pixels"):
        check_png(huge)


def test_a_full_disk_is_an_error_and_leaves_nothing(study, tmp_path):
    """The size of files is limited instead."""
    with reading(study) as file:
        about = read_about(file, study)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, before[1]))
    try:
        with pytest.raises(
            InputError, match=r"study\.sqlite could not be written: .*Free some space"
        ):
            write_study(tmp_path, about, photographs=[], pictures=[bytes(100_000)], trials=[])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert os.listdir(tmp_path) == []
