import os
from importlib import metadata
from pathlib import Path

import jax
import pytest

from train.__main__ import main
from train.environment import doctor


def _found(topic: str, cache: Path) -> doctor.Finding:
    (finding,) = (line for line in doctor.examine_machine(cache=cache) if line.topic == topic)
    return finding


def test_it_prints_what_a_bug_report_needs(tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "[/b]\x1b")
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "data"))
    assert main(["doctor"]) == 0
    said = capsys.readouterr().out
    for expected in (
        f"jax {jax.__version__}",
        f"optax {metadata.version('optax')}",
        f"{len(jax.local_devices())} x cpu (cpu)",
        f"{tmp_path / 'data'} can be written to",
        "CUDA_VISIBLE_DEVICES=[/b]\\x1b",
        "extra train  complete",
        "Nothing needs attention.",
    ):
        assert expected in said
    assert not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_written_is_named_with_advice(
    tmp_path: Path, monkeypatch, capsys
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "file" / "below"))
    assert main(["doctor"]) == 1
    said = capsys.readouterr().out
    assert "below cannot be written to: Not a directory. Set TFDS_DATA_DIR to" in said
    assert "lines need attention: data sets." in said


def test_a_missing_package_of_the_program_needs_attention(tmp_path: Path, monkeypatch) -> None:
    version = metadata.version

    def missing(name: str) -> str:
        if name in ("optax", "optuna"):
            raise metadata.PackageNotFoundError(name)
        return version(name)

    monkeypatch.setattr(doctor.metadata, "version", missing)
    assert _found("extra train", tmp_path).found == "lacks optax"
    assert 'pip install -e ".[train]"' in _found("extra train", tmp_path).advice
    # An extra that somebody has not chosen needs no attention.
    compare = _found("extra compare", tmp_path)
    assert compare.found.startswith("not installed (optuna)") and not compare.advice
    assert "optax (not installed)" in _found("versions", tmp_path).found


def test_a_broken_driver_is_one_line(tmp_path: Path, monkeypatch) -> None:
    def fail() -> None:
        raise RuntimeError("Unable to initialize backend 'cuda'\nand more")

    monkeypatch.setattr(doctor.jax, "local_devices", fail)
    devices = _found("devices", tmp_path)
    assert devices.found == "jax found none: Unable to initialize backend 'cuda'"
    assert "JAX_PLATFORMS=cpu" in devices.advice


def test_little_memory_and_a_full_disk_need_attention(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(doctor.os, "sysconf", lambda name: 4096 if "SIZE" in name else 500_000)
    assert _found("memory", tmp_path).found == "2.0 GB"
    assert "smaller --tile" in _found("memory", tmp_path).advice
    usage = doctor.shutil.disk_usage(tmp_path)
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda path: usage._replace(free=10**6))
    assert _found("cache", tmp_path).advice.startswith("Free some space.")


@pytest.mark.parametrize(
    ("folder", "found"),
    [
        ("~no-such-user/data", "~no-such-user/data can be written to"),
        ("a" * 300, "cannot be written to: File name too long"),
        ("gs://bucket/data", "gs://bucket/data is not on this machine, so it was not tried"),
    ],
)
def test_no_name_of_a_folder_ends_the_report(
    folder: str, found: str, tmp_path: Path, monkeypatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TFDS_DATA_DIR", folder)
    assert found in _found("data sets", tmp_path).found
    assert found in next(
        line.found for line in doctor.examine_machine(cache=folder) if line.topic == "cache"
    )


def test_a_folder_that_may_not_be_seen_does_not_end_the_report(tmp_path: Path, monkeypatch) -> None:
    def refused(path: Path) -> bool:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "exists", refused)
    cache = _found("cache", tmp_path)
    assert cache.found == f"{tmp_path} cannot be written to: Permission denied"
    assert "Set JAX_COMPILATION_CACHE_DIR" in cache.advice


@pytest.mark.skipif(os.name == "nt", reason="has other permissions")
def test_a_cache_that_others_can_write_to_needs_attention(tmp_path: Path) -> None:
    tmp_path.chmod(0o777)
    cache = _found("cache", tmp_path)
    assert cache.found == f"{tmp_path} is not used, because it can be written to by other users"
    assert "to which only you can write" in cache.advice
    assert "can be written to, " in _found("runs", tmp_path).found


def test_a_copy_that_is_not_installed_needs_attention(tmp_path: Path, monkeypatch) -> None:
    def missing(name: str) -> list[str]:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(doctor.metadata, "requires", missing)
    extras = _found("extras", tmp_path)
    assert extras.found == "unknown, because lumloss-jax is not installed"
    assert 'pip install -e ".[train]"' in extras.advice


def test_requirements_are_sorted_by_extra() -> None:
    assert doctor.packages_by_extra(
        [
            "chex>=0.1.90",
            "optax>=0.2.8; extra == 'train'",
            "lumloss-jax[models]; extra == 'train'",
            "optuna>=4.5 ; extra == 'compare'",
            "optax>=0.2.8; extra == 'compare'",
            'jax[tpu]; extra == "tpu"',
            "ruff>=0.9; extra == 'dev'",
        ]
    ) == {"train": ["optax"], "compare": ["optuna"], "tpu": ["libtpu"]}


def test_an_unknown_option_is_refused() -> None:
    with pytest.raises(SystemExit) as ended:
        main(["doctor", "--x"])
    assert ended.value.code == 2
