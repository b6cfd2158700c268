"""Specs that do not make a network are refused in one sentence, before any work is done."""

import pytest

from train.errors import InputError
from train.network import build_model, parse_model


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("dncnn(depth=3.5)", "depth must be a whole number; got 3.5"),
        ("dncnn(depth='a')", "depth must be a whole number; got 'a'"),
        ("dncnn(depth=True)", "depth must be a whole number; got True"),
        ("dncnn(depth=None)", "depth must be a whole number; got None"),
        ("dncnn(depth=1e5)", "depth must be a whole number"),
        ("dncnn(depth={})", "depth must be a whole number"),
        ("dncnn(dtype='x')", "dtype must be float32 or bfloat16 or float16; got 'x'"),
        ("dncnn(dtype='float64')", "dtype must be float32 or bfloat16 or float16"),
        ("dncnn(dtype=[])", "dtype must be float32 or bfloat16 or float16"),
        ("dncnn(batch_norm='no')", "batch_norm must be True or False; got 'no'"),
        ("dncnn(batch_norm=1)", "batch_norm must be True or False; got 1"),
        ("dncnn(norm_epsilon=1e999)", "norm_epsilon must be a finite number; got inf"),
        ("dncnn(bias=3)", "bias must be a name in quotes or None; got 3"),
        ("dncnn(axis_name='x')", "the program sets axis_name"),
        ("dncnn(name='x')", "the program sets name"),
        ("dncnn(parent=3)", "the program sets parent"),
        ("dncnn(depth=3, depth=4)", "depth is given twice"),
        ("dncnn(depht=3)", r"did you mean 'depth'\?$"),
        ("dncnn(depth=0)", "depth must be at least 2"),
        ("dncnn(features=0)", "features must be at least 1; got 0"),
        ("dncnn(features=-1)", "features must be at least 1; got -1"),
        ("dncnn(channels=0)", "channels must be at least 1; got 0"),
        ("buifd(fusion_features=0)", "fusion_features must be at least 1; got 0"),
        ("unet(features=(1.5,))", "features must be a tuple of whole numbers"),
        ("unet(features=())", "features must hold one width"),
        ("unet(features=(4,4,4,4,4,4,4,4,4,4,4,4))", "halves the image more than"),
        ("unet_scico(depth=40)", "halves the image more than"),
        ("drunet(blocks=100000)", "blocks must be at most"),
        ("drunet(blocks=1000)", "makes more than 512 layers"),
        ("dncnn(depth=1000000)", "depth must be at most"),
        ("dncnn(depth=2147483648)", "depth must be at most"),
        ("dncnn(depth=60000)", "makes more than 512 layers"),
        ("dncnn(features=1000000)", "features must be at most"),
        ("dncnn(features=60000)", "486,006,840,000 parameters. At most 1,000,000,000"),
        ("retinexformer(stages=100, num_blocks=(9, 9, 9))", "makes more than 512 layers"),
    ],
)
def test_fields_that_make_no_network_are_one_sentence(spec: str, message: str) -> None:
    with pytest.raises(InputError, match=message) as found:
        build_model(spec)
    assert "\n" not in str(found.value)
    with pytest.raises(InputError, match=message):  # what was found once is found again
        build_model(spec)


@pytest.mark.parametrize(
    "spec",
    [
        "",
        " ",
        "(",
        "(" * 900,
        "(" * 100_000,
        "-" * 900 + "1",
        "a\0b",
        "a" * 5000,
        "dncnn(17)",
        "dncnn(**{'depth': 3})",
        "1",
    ],
)
def test_what_is_no_call_is_one_short_sentence(spec: str) -> None:
    with pytest.raises(InputError, match="--model must be a name, or a name with fields") as found:
        parse_model(spec)
    assert len(str(found.value)) < 2500


@pytest.mark.parametrize(
    "value", ["nan", "10**9", "(4,) * 30", "{[]: 1}", "print()", "-" * 500 + "'a'"]
)
def test_a_field_is_a_plain_value(value: str) -> None:
    with pytest.raises(InputError, match="--model: depth must be a number, a text or"):
        parse_model(f"dncnn(depth={value})")


@pytest.mark.parametrize(
    "spec", ["dncnn(depth=3, features=4)", " dncnn(depth=3)\n", "dncnn(dtype='bfloat16')"]
)
def test_what_makes_a_network_is_built(spec: str) -> None:
    assert build_model(spec).channels == 3
