import os
import re
import resource
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

import jax
import jax.export
import numpy as np
import pytest
import safetensors.numpy

from lumloss_jax.models import from_torch_state_dict
from tests.slow_cases import slow_for
from train.__main__ import main
from train.checkpoints.checkpoint import Network, load_network
from train.errors import InputError
from train.files.outputs import check_replaceable
from train.inference import export
from train.inference.exports import existing, stablehlo
from train.inference.predictors import predictor_for

NORMED = "dncnn(depth=3, features=4)"
TOLD = "drunet(features=(2, 4), blocks=1)"

# As shown in the README; it needs jax and flatbuffers, but nothing from this repository.
LOADER = """
import sys
import jax.export, numpy as np
with open(sys.argv[1], "rb") as file:
    restore = jax.export.deserialize(bytearray(file.read())).call
images = np.load(sys.argv[2])
np.save(sys.argv[3], restore(images))
assert not {"flax", "lumloss_jax", "train"} & set(sys.modules)
"""

Make = Callable[[str], Path]


def images(batch: int, height: int, width: int) -> np.ndarray:
    return np.random.default_rng(0).uniform(0, 1, (batch, height, width, 3)).astype(np.float32)


def test_an_artefact_restores_the_same_pixels_elsewhere(
    checkpoint: Make, tmp_path: Path, capsys
) -> None:
    file = tmp_path / "model.stablehlo"
    assert main(["export", str(checkpoint(NORMED)), "--format=stablehlo", f"--output={file}"]) == 0
    assert main(["export", str(checkpoint(NORMED)), "--format=stablehlo", f"--output={file}"]) == 0
    assert "images float32 [b, h, w, 3] in [0, 1] -> restored" in capsys.readouterr().out
    assert jax.export.deserialize(bytearray(file.read_bytes())).platforms == ("cpu", "cuda", "tpu")
    batch = images(2, 9, 13)
    np.save(tmp_path / "in.npy", batch)
    arguments = [str(file), str(tmp_path / "in.npy"), str(tmp_path / "out.npy")]
    run = subprocess.run(
        [sys.executable, "-c", LOADER, *arguments], cwd=tmp_path, capture_output=True, text=True
    )
    assert run.returncode == 0, run.stderr
    network = load_network(checkpoint(NORMED))
    predictor = predictor_for(network.model, network.params, network.batch_stats)
    for found, image in zip(np.load(tmp_path / "out.npy"), batch, strict=True):
        np.testing.assert_allclose(found, predictor.restore(image), rtol=0, atol=1e-5)
        assert np.abs(found - image).max() > 0.01


QUICK = [
    "dncnn(depth=3, features=4)",
    "unet(features=(2, 4))",
    "retinexformer(features=4, levels=1, num_blocks=(0, 1), stages=2)",
]
OTHERS = [
    "dncnn_scico(depth=3, features=4)",
    "unet_scico(depth=2, features=2, block_depth=1)",
    "unet_dpir(features=(2, 4), blocks=1)",
    "buifd(depth=3, features=4, level_depth=2, level_features=4, fusion_features=4)",
    "retinexformer(features=4, levels=1, num_blocks=(1, 1))",
]


@slow_for("spec", [*QUICK, *OTHERS], OTHERS)
def test_every_kind_of_network_restores_the_same_when_reloaded(checkpoint: Make, spec: str) -> None:
    network = load_network(checkpoint(spec))
    program = jax.export.deserialize(bytearray(stablehlo.to_stablehlo(network)))
    predictor = predictor_for(network.model, network.params, network.batch_stats)
    batch = images(2, 15, 22)  # these are not multiples of a stride
    for found, image in zip(program.call(batch), batch, strict=True):
        np.testing.assert_allclose(found, predictor.restore(image), rtol=0, atol=1e-5)
        assert np.abs(found - image).max() > 0.01
    products = re.findall(r"stablehlo\.(?:convolution|dot_general).*", program.mlir_module())
    assert len(products) > 2
    for product in products:
        assert re.search(r"precision(_config)? = \[.*HIGHEST.*HIGHEST", product)


def test_sizes_and_noise_levels_stay_open(checkpoint: Make, tmp_path: Path) -> None:
    file = tmp_path / "model.stablehlo"
    assert main(["export", str(checkpoint(TOLD)), "--format=stablehlo", f"--output={file}"]) == 0
    restore = jax.export.deserialize(bytearray(file.read_bytes())).call
    network = load_network(checkpoint(TOLD))
    predictor = predictor_for(network.model, network.params, {})
    sigma = np.float32([0.05, 0.3])
    for batch in (images(2, 8, 8), images(2, 7, 11)):  # with and without multiples of the stride
        for found, image, level in zip(restore(batch, sigma), batch, sigma, strict=True):
            np.testing.assert_allclose(
                found, predictor.restore(image, sigma=level), rtol=0, atol=1e-5
            )


def test_a_state_dict_comes_back_as_the_same_network(checkpoint: Make, tmp_path: Path) -> None:
    file = tmp_path / "model.safetensors"
    assert main(["export", str(checkpoint(NORMED)), "--format=torch", f"--output={file}"]) == 0
    arrays = safetensors.numpy.load_file(file)
    assert arrays["dncnn.dncnn.0.weight"].shape == (4, 3, 3, 3)
    again = from_torch_state_dict("dncnn", arrays, depth=3, features=4)
    network = load_network(checkpoint(NORMED))
    jax.tree.map(np.testing.assert_array_equal, again["params"], jax.device_get(network.params))
    jax.tree.map(
        np.testing.assert_array_equal, again["batch_stats"], jax.device_get(network.batch_stats)
    )


def test_warnings_about_a_run_are_printed_as_by_other_verbs(
    checkpoint: Make, tmp_path: Path, capsys, monkeypatch
) -> None:
    def load(path: Path, warn: Callable[[str], None] = warnings.warn) -> Network:
        warn("2 is damaged; taking 1")
        return load_network(path)

    monkeypatch.setattr(export, "load_network", load)
    command = [
        "export",
        str(checkpoint(NORMED)),
        "--format=torch",
        f"--output={tmp_path / 'a.safetensors'}",
    ]
    assert main(command) == 0
    assert capsys.readouterr().out.startswith("warning: 2 is damaged; taking 1\n")


def test_the_output_says_where_the_names_of_arrays_come_from(
    checkpoint: Make, tmp_path: Path, capsys
) -> None:
    flax = "by their Flax paths, joined with dots, because there is no PyTorch code"
    for spec, named in {
        "dncnn_scico(depth=3, features=4)": "as in the network's PyTorch code",
        "unet_scico(depth=2, features=2, block_depth=1)": flax,
    }.items():
        command = [
            "export",
            str(checkpoint(spec)),
            "--format=torch",
            f"--output={tmp_path / 'a.safetensors'}",
        ]
        assert main(command) == 0
        assert f" arrays, named {named}\n" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["model.safetensors", "model.onnx", "model.stablehlo"])
@pytest.mark.parametrize(
    "content", [b"", b"of others", (64).to_bytes(8, "little") + b'{"__metadata__": {}}']
)
def test_foreign_files_are_replaced_only_if_asked(
    checkpoint: Make, tmp_path: Path, capsys, name: str, content: bytes
) -> None:
    formats = {"model.safetensors": "torch", "model.onnx": "onnx", "model.stablehlo": "stablehlo"}
    (tmp_path / name).write_bytes(content)
    command = [
        "export",
        str(checkpoint(NORMED)),
        f"--format={formats[name]}",
        f"--output={tmp_path / name}",
    ]
    assert main(command) == 2
    assert f"--output: {tmp_path / name} exists and was not written by" in capsys.readouterr().err
    assert (tmp_path / name).read_bytes() == content
    if name == "model.safetensors":
        for options in (["--overwrite"], []):
            assert main([*command, *options]) == 0


def shape_without_end(symbol: str) -> bytes:
    """A program by somebody else, whose symbolic shape takes forever to parse."""

    def restore(x: jax.Array) -> jax.Array:
        return x

    name = "b" * 40
    shape = jax.ShapeDtypeStruct(jax.export.symbolic_shape(name), np.float32)
    program = bytes(jax.export.export(jax.jit(restore))(shape).serialize())
    return program.replace(name.encode(), symbol.ljust(len(name)).encode())


def state_dict(**metadata: str) -> bytes:
    return safetensors.numpy.save({"a": np.zeros(3, np.float32)}, metadata=metadata)


@pytest.mark.parametrize(
    ("ending", "content"),
    [
        ("safetensors", state_dict(model="theirs")),
        ("safetensors", state_dict(producer="theirs")),
        ("safetensors", (2).to_bytes(8, "little") + b"[]"),
        ("safetensors", (10**6).to_bytes(8, "little") + b"[" * 10**6),
        ("safetensors", (2**63).to_bytes(8, "little") + b"{"),
        ("stablehlo", shape_without_end("b")),
        ("stablehlo", shape_without_end("9^99999999")),
        ("stablehlo", b"lumloss_jax_restore\0" + bytes(50)),
        ("onnx", b"\x08\x0a\x12\x07pytorch\x1a\x0blumloss_jax"),
        ("onnx", b"\x08\x0a\x12\x0clumloss_jax2"),
    ],
)
def test_a_file_of_another_program_is_not_taken_for_ours(
    tmp_path: Path, ending: str, content: bytes
) -> None:
    path = tmp_path / f"model.{ending}"
    path.write_bytes(content)
    with pytest.raises(InputError, match="exists and was not written by this command"):
        check_replaceable(path, existing.is_ours, option="--output", overwrite=False)
    assert path.read_bytes() == content


def test_a_full_disk_is_one_sentence_and_keeps_the_earlier_file(
    checkpoint: Make, tmp_path: Path, capsys
) -> None:
    command = [
        "export",
        str(checkpoint(NORMED)),
        "--format=torch",
        f"--output={tmp_path / 'a.safetensors'}",
    ]
    assert main(command) == 0
    before = (tmp_path / "a.safetensors").read_bytes()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) - 1, hard))
    try:
        assert main(command) == 2
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert capsys.readouterr().err.endswith("a.safetensors could not be written: File too large.\n")
    assert (tmp_path / "a.safetensors").read_bytes() == before
    assert os.listdir(tmp_path) == ["a.safetensors"]


def test_what_cannot_be_exported_or_written_is_an_error(
    checkpoint: Make, tmp_path: Path, capsys, monkeypatch
) -> None:
    command = ["export", str(checkpoint(NORMED))]
    assert main([*command, "--format=torch", f"--output={tmp_path / 'model.pth'}"]) == 2
    said = capsys.readouterr().err
    assert "model.pth does not end in .safetensors, the ending for --format torch. Use" in said
    (tmp_path / "file").write_text("")
    assert (
        main([*command, "--format=torch", f"--output={tmp_path / 'file' / 'model.safetensors'}"])
        == 2
    )
    assert "could not be written" in capsys.readouterr().err
    network = load_network(checkpoint(NORMED))
    monkeypatch.setattr(stablehlo, "_LARGEST", 1000)
    with pytest.raises(
        InputError, match="MB of parameters, but a program holds at most 0 MB. Use --format torch"
    ):
        stablehlo.to_stablehlo(Network(*network))


@pytest.mark.parametrize(
    ("features", "flags", "smaller"),
    [
        (28_000, ["--format=onnx"], False),
        (300, ["--format=darktable"], True),
        (28_000, ["--format=onnx", "--size=4000x6000"], True),
    ],
)
def test_networks_that_would_fill_the_memory_are_refused(
    checkpoint: Make, tmp_path: Path, capsys, features: int, flags: list[str], smaller: bool
) -> None:
    network = checkpoint(f"dncnn(depth=2, features={features}, batch_norm=False)")
    suffix = ".onnx" if "onnx" in flags[0] else ".dtmodel"
    assert main(["export", str(network), *flags, f"--output={tmp_path / 'a'}{suffix}"]) == 2
    said = capsys.readouterr().err
    assert "is so wide that about" in said and "Use --format torch" in said
    assert ("or a smaller --size" in said) == smaller
    assert os.listdir(tmp_path) == []
