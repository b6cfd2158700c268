"""colab/install.py keeps the runtime's own packages, or says why nothing was installed."""

import subprocess
import sys
import zipfile
from pathlib import Path

import install
import pytest

COLAB = ["jax==0.7.2", "jaxlib==0.7.2", "libtpu==0.0.21.1", "numpy==2.1.3"]


def test_jax_its_plugins_libtpu_and_numpy_are_held():
    plugins = ["jax-cuda12-plugin==0.7.2", "jax-cuda12-pjrt==0.7.2"]
    installed = [*COLAB, *plugins, "jaxtyping==0.3", "numpydoc==1", "optax==1"]
    assert install.held(dict(line.split("==") for line in installed)) == [*COLAB, *plugins]


@pytest.mark.parametrize("extra", ["notebooks", "train", "compare"])
def test_colabs_versions_meet_what_is_asked_for(extra):
    install.check_held(install.requirements(extra), COLAB)


def test_a_runtime_that_is_too_old_is_told_so():
    with pytest.raises(
        install.CannotInstall,
        match=r"needs jax>=0\.7\.2, and this runtime has jax 0\.6\.0\. .*newer",
    ):
        install.check_held(install.requirements("compare"), ["jax==0.6.0", *COLAB[1:]])


def test_extras_of_extras_are_followed():
    names = {one.name for one in install.requirements("compare")}
    assert {"jax", "flax", "orbax-checkpoint", "plotly"} <= names
    assert "lumloss-jax" not in names


def test_an_unknown_extra_is_named():
    with pytest.raises(
        install.CannotInstall, match="no extra 'trian'. Choose one of models, train"
    ):
        list(install.requirements("trian"))


def test_what_is_missing_is_what_is_absent_or_too_old():
    asked = [install.Requirement(line) for line in ("jax>=0.7.2", "optax>=0.2.8", "Flax>=0.11")]
    assert install.missing(asked, {"jax": "0.7.2", "flax": "0.10"}) == asked[1:]


def test_a_checkout_that_is_installed_is_left_alone(capsys, monkeypatch):
    monkeypatch.setattr(install, "pip_install", lambda *_: pytest.fail("pip was run"))
    install.install_extra("train")
    assert "nothing to do" in capsys.readouterr().out


@pytest.fixture
def installs(monkeypatch) -> list[list[str]]:
    """The constraints of each pip run; nothing is installed, and optax seems to have moved."""
    before = {"jax": "0.7.2", "optax": "0.2.8", "lumloss-jax": "0.0.1"}
    found = iter([before, before | {"optax": "0.2.9", "flax": "0.11.2", "lumloss-jax": "0.1.0"}])
    given: list[list[str]] = []
    monkeypatch.setattr(
        install,
        "missing",
        lambda asked, installed: [] if installed == {"jax": "0.7.2"} else [asked],
    )
    monkeypatch.setattr(install, "listed", lambda: next(found))
    monkeypatch.setattr(
        install, "pip_install", lambda arguments, constraints: given.append(constraints)
    )
    return given


def test_nothing_that_is_installed_moves_where_there_is_a_way(installs):
    install.install_extra("train")
    assert installs == [["jax==0.7.2", "optax==0.2.8"]]


def test_where_there_is_none_what_moved_is_named(installs, monkeypatch, capsys):
    def refuse_the_first(arguments, constraints):
        installs.append(constraints)
        if len(installs) == 1:
            raise install.CannotInstall("optax is too old")

    monkeypatch.setattr(install, "pip_install", refuse_the_first)
    install.install_extra("train")
    assert installs == [["jax==0.7.2", "optax==0.2.8"], ["jax==0.7.2"]]
    assert "had to change optax 0.2.8 -> 0.2.9. If" in capsys.readouterr().out


def test_what_is_gone_has_moved_too():
    assert install.moved({"optax": "0.2.8", "jax": "0.7.2"}, {"jax": "0.7.2"}) == [
        "optax 0.2.8 -> removed"
    ]


@pytest.fixture(scope="module")
def bare(tmp_path_factory) -> Path:
    """The Python of an environment without any package, pip included."""
    folder = tmp_path_factory.mktemp("bare")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    return folder / "bin" / "python"


def test_an_environment_without_pip_is_told_how_to_get_it(bare, monkeypatch):
    monkeypatch.setattr(install.sys, "executable", str(bare))
    with pytest.raises(
        install.CannotInstall,
        match=r"says: .*No module named pip\. Fix it with `.*python -m ensurepip`",
    ):
        install.listed()


def test_an_environment_without_packaging_is_told_so(bare):
    command = [bare, "-c", "import begin"]
    ran = subprocess.run(command, cwd=install.ROOT / "colab", capture_output=True, text=True)
    assert ran.stderr.startswith("error: ") and ran.stderr.endswith(
        "To install it, run `python -m pip install packaging`\n"
    )
    assert "Traceback" not in ran.stderr


def wheel(folder: Path, name: str, version: str, *requires: str) -> None:
    """A package without content."""
    about = f"{name}-{version}.dist-info"
    metadata = ["Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}"]
    metadata += [f"Requires-Dist: {one}" for one in requires]
    with zipfile.ZipFile(folder / f"{name}-{version}-py3-none-any.whl", "w") as file:
        file.writestr(f"{about}/METADATA", "\n".join(metadata) + "\n")
        file.writestr(
            f"{about}/WHEEL",
            "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        )
        file.writestr(f"{about}/RECORD", "")


@pytest.fixture
def shelf(tmp_path, monkeypatch) -> list[str]:
    """Arguments by which pip takes packages from a folder, and only looks."""
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    wheel(tmp_path, "restorer", "1.0", "accelerated>=2")
    wheel(tmp_path, "accelerated", "1.0")
    wheel(tmp_path, "accelerated", "2.0")
    wheel(tmp_path, "lost", "1.0", "nowhere>=3")
    return ["--no-index", "--dry-run", "--ignore-installed"]


def test_pip_installs_where_constraints_can_be_met(shelf):
    install.pip_install([*shelf, "restorer"], ["accelerated==2.0"])


def test_a_conflict_that_pip_finds_becomes_a_sentence(shelf):
    with pytest.raises(install.CannotInstall) as caught:
        install.pip_install([*shelf, "restorer"], ["accelerated==1.0"])
    assert str(caught.value).startswith(
        "pip cannot install lumloss_jax together with accelerated==1.0: restorer 1.0 depends on "
        "accelerated>=2. These are"
    )


def test_a_package_that_is_not_to_be_had_becomes_a_sentence(shelf):
    with pytest.raises(
        install.CannotInstall,
        match=r"together with accelerated==1\.0: there is no nowhere>=3.* for Python 3",
    ):
        install.pip_install([*shelf, "lost"], ["accelerated==1.0"])


def test_other_errors_of_pip_are_quoted(shelf):
    with pytest.raises(
        install.CannotInstall, match="The last lines of its output:(?s:.*)--no-such-flag"
    ):
        install.pip_install([*shelf, "--no-such-flag"], ["accelerated==1.0"])
