"""Each notebook is its .py without outputs, and all its cells run with the smoke setting."""

import base64
import io
import os
import re
import struct
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import begin
import install
import jupytext
import nbclient
import nbformat
import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import load_file

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
SCRIPTS = sorted((ROOT / "colab").glob("0*.py"))
NOTEBOOKS = [pytest.param(path, id=path.stem) for path in SCRIPTS]


def cells(path: Path) -> list[tuple[str, str]]:
    """Kind and text of each cell, of a script or a notebook."""
    return [(cell.cell_type, cell.source) for cell in jupytext.read(path).cells]


def first_code(path: Path) -> str:
    return next(text for kind, text in cells(path) if kind == "code")


@pytest.mark.parametrize("path", NOTEBOOKS)
def test_the_notebook_is_its_script_without_outputs(path):
    """Written by `make notebooks`."""
    assert cells(path.with_suffix(".ipynb")) == cells(path)
    notebook = nbformat.read(path.with_suffix(".ipynb"), as_version=4)
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert all(cell.outputs == [] and cell.execution_count is None for cell in code)
    assert notebook.metadata["accelerator"] == jupytext.read(path).metadata["accelerator"]


def test_every_notebook_has_its_script():
    assert {path.stem for path in (ROOT / "colab").glob("*.ipynb")} == {
        path.stem for path in SCRIPTS
    }


@pytest.mark.parametrize("path", NOTEBOOKS)
def test_it_opens_with_what_it_shows_on_which_hardware_and_how_long(path):
    kind, text = cells(path)[0]
    assert kind == "markdown"
    assert re.findall(r"^\*\*(.+?)\.\*\*", text, re.MULTILINE) == [
        "What it shows",
        "Hardware",
        "How long",
    ]


def test_all_begin_alike_and_install_an_extra_at_the_tag_of_this_version():
    beginnings = [first_code(path) for path in SCRIPTS]
    extras = [
        re.search(r'^begin.install\("(\w+)"\)$', text, re.MULTILINE)[1] for text in beginnings
    ]
    assert extras == ["notebooks", "train", "compare", "train"]
    assert set(extras) <= set(PROJECT["optional-dependencies"])
    assert (
        len({text.replace(extra, "") for text, extra in zip(beginnings, extras, strict=True)}) == 1
    )
    assert f'TAG = "v{PROJECT["version"]}"' in beginnings[0]


@pytest.fixture
def content(tmp_path: Path) -> Path:
    """A folder that is no checkout, as Colab's is."""
    (tmp_path / "content").mkdir()
    return tmp_path / "content"


@pytest.fixture
def published(tmp_path: Path) -> Path:
    """A repository whose ``begin.install`` says what it was asked for, tagged v1."""
    folder = tmp_path / "published"
    (folder / "colab").mkdir(parents=True)
    (folder / "colab" / "begin.py").write_text("def install(extra): print('installs', extra)")
    identity = ("-c", "user.name=me", "-c", "user.email=me@example.org")
    for command in (
        ["init", "-q"],
        ["add", "."],
        [*identity, "commit", "-qm", "one"],
        ["tag", "v1"],
    ):
        subprocess.run(["git", "-C", str(folder), *command], check=True)
    return folder


def first_cell(folder: Path, repository: str = "", tag: str = "v1") -> tuple[str, str]:
    """What the first cell prints and complains of, in a folder with its two names set."""
    text = first_code(SCRIPTS[1]).replace('REPOSITORY = ""', f"REPOSITORY = {repository!r}")
    (folder / "cell.py").write_text(re.sub(r'TAG = ".*?"', f"TAG = {tag!r}", text))
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    ran = subprocess.run(
        [sys.executable, "cell.py"], cwd=folder, env=environment, capture_output=True, text=True
    )
    return ran.stdout, ran.stderr


def test_outside_a_checkout_it_clones_at_the_tag_and_installs(content, published):
    assert first_cell(content, f"file://{published}") == ("installs train\n", "")
    assert (content / "lumloss_jax" / "colab" / "begin.py").is_file()
    # Again: what is there is taken
    assert first_cell(content, f"file://{published}") == (
        "installs train\n",
        "",
    )


@pytest.mark.parametrize("folder", [".", "colab"])
def test_in_a_checkout_nothing_is_to_be_set(published, folder):
    assert first_cell(published / folder) == ("installs train\n", "")


def test_outside_a_checkout_it_asks_for_the_repository(content):
    assert "There is no checkout here: set REPOSITORY above" in first_cell(content)[1]


def test_a_tag_that_is_not_there_is_named(content, published):
    said = first_cell(content, f"file://{published}", "v9")[1]
    assert re.search("fatal: .*v9", said) and "CalledProcessError" in said


def test_what_is_installed_can_be_imported_at_once(monkeypatch):
    asked = []
    monkeypatch.setattr(install, "install_extra", asked.append)
    monkeypatch.setattr(sys, "path", [])
    begin.install("train")
    assert (asked, sys.path) == (["train"], [str(ROOT)])


def test_where_nothing_can_be_installed_the_notebook_stops_with_the_reason(monkeypatch):
    def refuse(extra: str) -> None:
        raise install.CannotInstall("jax is too old")

    monkeypatch.setattr(install, "install_extra", refuse)
    with pytest.raises(SystemExit, match="error: jax is too old"):
        begin.install("train")


class Ran(NamedTuple):
    """What a notebook left."""

    text: str
    html: list[str]
    pictures: list[np.ndarray]
    folder: Path


def execute(path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch, **given: str) -> Ran:
    """Runs all cells on four CPU devices, next to a stand-in for their clone.

    An error in a cell is an error here. ``given`` sets names that users fill in.
    """
    (folder / "lumloss_jax").symlink_to(ROOT)
    settings = {
        "LUMLOSS_SMOKE": "1",
        "JAX_PLATFORMS": "cpu",
        "JAX_NUM_CPU_DEVICES": "4",
        "JAX_COMPILATION_CACHE_DIR": str(ROOT / ".cache" / "jax"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "0",
        "PYDEVD_DISABLE_FILE_VALIDATION": "1",
    }
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    notebook = nbformat.read(path.with_suffix(".ipynb"), as_version=4)
    for cell in notebook.cells:
        for name, value in given.items():
            cell.source = cell.source.replace(f'{name} = ""', f"{name} = {value!r}")
    nbclient.NotebookClient(
        notebook, timeout=600, kernel_name="python3", resources={"metadata": {"path": str(folder)}}
    ).execute()
    outputs = list(outputs_of(notebook))
    shown = [output.data for output in outputs if "data" in output]
    # Pillow shows each as JPEG besides
    pictures = [data["image/png"] for data in shown if "image/png" in data]
    assert [output.text for output in outputs if output.get("name") == "stderr"] == []
    return Ran(
        text="\n".join(
            output.get("text", "") or output.get("data", {}).get("text/plain", "")
            for output in outputs
        ),
        html=[data["text/html"] for data in shown if "text/html" in data],
        pictures=[np.asarray(Image.open(io.BytesIO(base64.b64decode(data)))) for data in pictures],
        folder=folder,
    )


def outputs_of(notebook: nbformat.NotebookNode) -> Iterator[nbformat.NotebookNode]:
    for cell in notebook.cells:
        yield from cell.get("outputs", ())


def plain(text: str) -> str:
    """Without colours of the terminal."""
    return re.sub(r"\x1b\[[\d;]*m", "", text)


@pytest.mark.slow
def test_luminance_loss_is_drawn_and_taken_by_every_kind_of_pipeline(tmp_path, monkeypatch):
    ran = execute(SCRIPTS[0], tmp_path, monkeypatch)
    assert len(ran.pictures) == 4
    assert all(picture.std() > 10 for picture in ran.pictures)
    curves = re.findall(r"^(\S.*?) +(0\.\d+) -> (0\.\d+)$", ran.text, re.MULTILINE)
    assert [name for name, *_ in curves] == [
        "NNX",
        "NNX, DnCNN by ToNNX",
        "Linen",
        "pmap, 4 device(s)",
        "Equinox",
    ]
    assert all(float(last) < float(first) for _, first, last in curves)


@pytest.mark.slow
def test_training_goes_on_from_drive_and_restores_a_photograph(tmp_path, monkeypatch):
    ran = execute(SCRIPTS[1], tmp_path, monkeypatch)
    text = plain(ran.text)
    assert "4 cpu device(s)" in text
    assert "4 cpu devices" in text  # of the run: each batch is shared by all of them
    assert re.findall(r"copied step (\d+)", text)[-2:] == ["20", "30"]
    archives = sorted(path.name for path in (tmp_path / "drive").iterdir())
    assert [re.sub("-[0-9a-f]{8}-", "-HASH-", name) for name in archives] == [
        "denoiser-HASH-step-20.tar",
        "denoiser-HASH-step-30.tar",
    ]
    assert "resuming from step 20" in text
    assert "the same bits as the unbroken run: True" in text
    assert (tmp_path / "restored" / "coffee.png").is_file()
    comparison, before_after = ran.pictures
    assert comparison.std() > 10
    before, after = before_after[328:, :480], before_after[328:, 488:]
    assert (
        np.abs(np.diff(after.astype(float), axis=0)).mean()
        < np.abs(np.diff(before.astype(float), axis=0)).mean()
    )


@pytest.mark.slow
def test_losses_are_compared_with_the_report_inline(tmp_path, monkeypatch):
    ran = execute(SCRIPTS[2], tmp_path, monkeypatch)
    (frame,) = (html for html in ran.html if "<iframe srcdoc=" in html)
    assert "No verdict" in frame
    assert "&lt;html" in frame
    assert "No verdict: 2 test photographs are too few" in plain(ran.text)
    assert len(re.findall(r"^(?:luminance_l1|l1) +seed \d", ran.text, re.MULTILINE)) == 8


def save_pth(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Writes a state dict of float32 tensors as torch.save does: a pickle, and the numbers."""

    def text(value: str) -> bytes:
        return b"X" + struct.pack("<I", len(value)) + value.encode()

    def integer(value: int) -> bytes:
        return b"J" + struct.pack("<i", value)

    def numbers(values: tuple[int, ...]) -> bytes:
        return b"(" + b"".join(map(integer, values)) + b"t"

    def tensor(number: int, array: np.ndarray) -> bytes:
        storage = (
            text("storage")
            + b"ctorch\nFloatStorage\n"
            + text(str(number))
            + text("cpu")
            + integer(array.size)
        )
        layout = (
            integer(0)
            + numbers(array.shape)
            + numbers(tuple(stride // 4 for stride in array.strides))
        )
        return (
            b"ctorch._utils\n_rebuild_tensor_v2\n(("
            + storage
            + b"tQ"
            + layout
            + b"\x89ccollections\nOrderedDict\n)RtR"
        )

    tensors = (text(name) + tensor(i, array) for i, (name, array) in enumerate(arrays.items()))
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("archive/data.pkl", b"\x80\x02}(" + b"".join(tensors) + b"u.")
        for i, array in enumerate(arrays.values()):
            file.writestr(f"archive/data/{i}", array.astype("<f4").tobytes())


def moved_weights(ran: Ran) -> list[float]:
    """How far the three convolutions were moved by fine-tuning, names and shapes having stayed."""
    assert "the same names and shapes as in the imported file: True" in ran.text
    moved = [float(most) for most in re.findall(r"moved by ([\d.]+) at most", ran.text)]
    assert len(moved) == 3 and min(moved) > 0
    assert len(ran.pictures) == 1
    return moved


@pytest.mark.slow
def test_pytorch_weights_come_in_are_tuned_and_go_back(tmp_path, monkeypatch):
    made = tmp_path / "made"
    made.mkdir()
    fresh = moved_weights(execute(SCRIPTS[3], made, monkeypatch))

    # The same weights as a .pth of several GPUs: they count as trained, and are moved at a tenth of
    # the rate.
    arrays = load_file(made / "from_pytorch.safetensors")
    mine = tmp_path / "mine"
    mine.mkdir()
    save_pth(mine / "mine.pth", {f"module.{name}": array for name, array in arrays.items()})
    ran = execute(SCRIPTS[3], mine, monkeypatch, FILE="mine.pth")
    assert "mine.pth: " in ran.text and "--learning-rate 0.0002" in ran.text
    assert max(moved_weights(ran)) < 0.5 * max(fresh)
