import hashlib
import json
import re

from train.__main__ import main
from train.study.study_file import reading

CONDITIONS = {"distance": 60, "width": 1400, "height": 900, "ratio": 1, "gamut": "srgb"}


def run(*arguments):
    return main(["study", *map(str, arguments)])


def exported(study, tmp_path, name="one.html"):
    """What the page of the next observer holds."""
    assert run("export", study, "--static", tmp_path / name) == 0
    page = (tmp_path / name).read_text()
    return page, json.loads(re.search(r'id="study">(.*?)</script>', page, re.DOTALL)[1])


def save(path, held, *, count=None, **changed):
    """A file with votes, as the page saves it."""
    votes = [
        {
            "trial": trial["trial"],
            "choice": "left",
            "zoomed": False,
            "flickered": True,
            "milliseconds": 900,
        }
        for trial in held["trials"][:count]
    ]
    content = {"study": held["id"], "place": held["place"], "conditions": CONDITIONS}
    text = json.dumps({**content, "votes": votes, **changed})
    path.write_text(
        json.dumps({"content": text, "sha256": hashlib.sha256(text.encode()).hexdigest()})
    )
    return path


def counts(study):
    with reading(study) as file:
        query = "SELECT place, count(*) FROM votes GROUP BY place"
        return {row[0]: row[1] for row in file.execute(query)}


def test_the_page_does_not_say_what_is_on_which_side(study, tmp_path, folders):
    page, held = exported(study, tmp_path)
    assert set(held) == {"id", "place", "practice", "trials", "pictures", "texts"}
    assert all(set(trial) == {"trial", "pictures"} for trial in held["trials"])
    assert len(set(map(len, held["pictures"]))) == 1  # files of one length
    said = page[page.index("</style>") :].replace("event.repeat", "")
    said = re.sub(r"base64,[^\"]+", "", said)
    for secret in ("obvious", "repeat", '"a"', '"b"', "p00", str(folders), "seed"):
        assert secret not in said
    assert "http" not in page.replace("http-equiv", "")
    assert "import " not in page  # no module that a browser would have to fetch


def test_votes_from_files_are_merged(study, tmp_path, capsys):
    held = [exported(study, tmp_path, f"{number}.html")[1] for number in range(3)]
    assert [each["place"] for each in held] == [0, 1, 2]
    assert run("export", study, "--static", tmp_path / "more.html") == 2
    assert "All 3 places" in capsys.readouterr().err
    assert not (tmp_path / "more.html").exists()
    files = [save(tmp_path / f"{each['place']}.json", each) for each in held]
    assert run("merge", study, *files[:2]) == 0
    said = capsys.readouterr().out
    assert "46 votes of 2 observers were added" in said and "on purpose" in said
    assert run("merge", study, files[2]) == 0
    assert counts(study) == {0: 23, 1: 23, 2: 23}
    with reading(study) as file:
        assert file.execute("SELECT min(flickered) FROM votes").fetchone()[0] == 1
        stored = file.execute("SELECT conditions FROM observers").fetchall()
    assert all('"distance": 60.0' in row["conditions"] for row in stored)


def test_votes_so_far_may_be_continued(study, tmp_path, capsys):
    _, held = exported(study, tmp_path)
    assert run("merge", study, save(tmp_path / "some.json", held, count=7)) == 0
    assert run("merge", study, save(tmp_path / "all.json", held)) == 0
    assert counts(study) == {0: 23}
    assert run("merge", study, tmp_path / "some.json") == 2
    assert "merged before" in capsys.readouterr().err


def test_what_cannot_be_merged_is_listed_and_nothing_is(study, make_study, tmp_path, capsys):
    _, held = exported(study, tmp_path)
    good = save(tmp_path / "good.json", held)
    other = save(tmp_path / "other.json", {**held, "id": "0" * 16})
    changed = tmp_path / "changed.json"
    changed.write_text(good.read_text().replace("left", "right", 1))
    cut = tmp_path / "cut.json"
    cut.write_bytes(good.read_bytes()[:-9])
    twice = save(tmp_path / "twice.json", held)
    place = save(tmp_path / "place.json", {**held, "place": 1})
    votes = save(tmp_path / "votes.json", held, votes=[])
    shuffled = save(tmp_path / "order.json", {**held, "trials": held["trials"][::-1]})
    strange = save(tmp_path / "strange.json", held, votes=[{"trial": 3}])
    files = [good, other, changed, cut, twice, place, votes, shuffled, strange]
    assert run("merge", study, *files, tmp_path / "missing.json") == 2
    said = capsys.readouterr().err
    for file, why in (
        (other, "a different study"),
        (changed, "changed or damaged"),
        (cut, "not JSON"),
        (twice, "the same observer as"),
        (place, "no file was made for this observer"),
        (votes, "do not fit the pairs"),
        (shuffled, "do not fit the pairs"),
        (strange, "does not hold the votes"),
        (tmp_path / "missing.json", "no such file"),
    ):
        assert re.search(f"{re.escape(str(file))}: [^\n]*{why}", said), (file, said)
    assert counts(study) == {}
    assert run("merge", study, good) == 0
    assert run("merge", study, good) == 2
    assert "merged before" in capsys.readouterr().err
    contrary = save(tmp_path / "contrary.json", held)
    content = json.loads(contrary.read_text())["content"].replace("left", "none")
    contrary.write_text(
        json.dumps({"content": content, "sha256": hashlib.sha256(content.encode()).hexdigest()})
    )
    assert run("merge", study, contrary) == 2
    assert "contradicts" in capsys.readouterr().err
    assert counts(study) == {0: 23}


def test_an_existing_file_is_not_replaced_and_takes_no_place(study, tmp_path, capsys):
    (tmp_path / "one.html").write_text("mine")
    assert run("export", study, "--static", tmp_path / "one.html") == 2
    assert (tmp_path / "one.html").read_text() == "mine"
    (tmp_path / "file").write_text("")
    assert run("export", study, "--static", tmp_path / "file" / "below.html") == 2
    assert f"error: {tmp_path / 'file'}: File exists" in capsys.readouterr().err
    _, held = exported(study, tmp_path, "two.html")
    assert held["place"] == 0  # the failure freed its place
