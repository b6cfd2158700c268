"""Weights from PyTorch and back: names, renamings, errors, folding.

Numbers against PyTorch's are in test_parity.py.
"""

import jax
import ml_dtypes
import numpy as np
import pytest

from lumloss_jax.models import (
    create_model,
    fold_batch_norm,
    from_torch_state_dict,
    to_torch_state_dict,
)

FIELDS = {"depth": 3, "features": 4, "channels": 1}


def state_dict_of(name, random_variables, **config):
    return to_torch_state_dict(name, random_variables(create_model(name, **config)), **config)


def assert_equal_trees(left, right):
    jax.tree.map(np.testing.assert_array_equal, left, right)


def test_every_preset_goes_to_pytorch_and_back(small, random_variables):
    name, config = small
    variables = random_variables(create_model(name, **config))
    state_dict = to_torch_state_dict(name, variables, **config)
    assert_equal_trees(from_torch_state_dict(name, state_dict, **config), variables)


def test_names_of_the_code_bases(random_variables):
    keys = {}
    for name in ("dncnn", "dncnn_kair", "dncnn_kair_merged"):
        state_dict = state_dict_of(name, random_variables, **FIELDS)
        keys[name] = [key for key in state_dict if key.endswith(".weight")]
    assert keys == {
        "dncnn": [
            "dncnn.dncnn.0.weight",
            "dncnn.dncnn.2.weight",
            "dncnn.dncnn.3.weight",
            "dncnn.dncnn.5.weight",
        ],
        "dncnn_kair": ["model.0.weight", "model.2.weight", "model.3.weight", "model.5.weight"],
        "dncnn_kair_merged": ["model.0.weight", "model.2.weight", "model.4.weight"],
    }
    first_only = state_dict_of("dncnn", random_variables, bias="first", **FIELDS)
    assert list(first_only)[:3] == ["dncnn.0.weight", "dncnn.0.bias", "dncnn.2.weight"]


@pytest.mark.parametrize(
    "beginning", ["dncnn.", "model.", "module.dncnn.dncnn.", "module.module.dncnn."]
)
def test_renamings_and_wrappers_are_understood(beginning, random_variables):
    state_dict = state_dict_of("dncnn", random_variables, **FIELDS)
    expected = from_torch_state_dict("dncnn", state_dict, **FIELDS)
    renamed = {key.replace("dncnn.dncnn.", beginning): array for key, array in state_dict.items()}
    assert_equal_trees(from_torch_state_dict("dncnn", renamed, **FIELDS), expected)
    # SaoYan's files are older than the counters; Retinexformer's and many others wrap the
    # dictionary.
    older = {
        key: array for key, array in renamed.items() if not key.endswith("num_batches_tracked")
    }
    assert_equal_trees(from_torch_state_dict("dncnn", {"params": older}, **FIELDS), expected)
    assert_equal_trees(
        from_torch_state_dict("dncnn", {"epoch": 3, "state_dict": older}, **FIELDS), expected
    )


@pytest.mark.parametrize("dtype", [np.float16, np.float64, ml_dtypes.bfloat16])
def test_other_float_types_become_float32(dtype, random_variables):
    state_dict = state_dict_of("dncnn_kair_merged", random_variables, **FIELDS)
    cast = {key: array.astype(dtype) for key, array in state_dict.items()}
    variables = from_torch_state_dict("dncnn_kair_merged", cast, **FIELDS)
    kernel = variables["params"]["conv_first"]["kernel"]
    assert kernel.dtype == np.float32
    expected = cast["model.0.weight"].astype(np.float32).transpose(2, 3, 1, 0)
    np.testing.assert_array_equal(kernel, expected)


def test_one_error_lists_all_that_does_not_fit(random_variables):
    state_dict = state_dict_of("dncnn", random_variables, **FIELDS)
    state_dict["extra.thing"] = np.zeros(3, np.float32)
    state_dict["dncnn.dncnn.2.wight"] = state_dict.pop("dncnn.dncnn.2.weight")
    state_dict["dncnn.dncnn.0.weight"] = state_dict["dncnn.dncnn.0.weight"][:3]
    state_dict["dncnn.dncnn.5.weight"] = state_dict["dncnn.dncnn.5.weight"].astype(np.int32)
    del state_dict["dncnn.dncnn.3.bias"]
    with pytest.raises(ValueError) as caught:
        from_torch_state_dict("dncnn", state_dict, **FIELDS)
    lines = str(caught.value).splitlines()
    assert lines == [
        "the weights do not fit 'dncnn' with these fields:",
        "  missing: dncnn.dncnn.2.weight (4, 4, 3, 3)",
        "  missing: dncnn.dncnn.3.bias (4,)",
        "  unknown: dncnn.dncnn.2.wight (4, 4, 3, 3); nearest: dncnn.dncnn.2.weight",
        "  unknown: extra.thing (3,)",
        "  misshapen: dncnn.dncnn.0.weight is (3, 1, 3, 3), takes (4, 1, 3, 3)",
        "  wrong dtype: dncnn.dncnn.5.weight holds int32, takes floats",
    ]


def test_refuses_two_names_for_one_array(random_variables):
    state_dict = state_dict_of("dncnn", random_variables, **FIELDS)
    state_dict["module.dncnn.0.weight"] = state_dict["dncnn.dncnn.0.weight"]
    with pytest.raises(ValueError, match=r"'dncnn.dncnn.0.weight' twice.*'module.dncnn.0.weight'"):
        from_torch_state_dict("dncnn", state_dict, **FIELDS)


def test_export_refuses_variables_of_another_network(random_variables):
    variables = random_variables(create_model("dncnn", **FIELDS))
    with pytest.raises(ValueError, match=r"missing: params/block_1/conv/kernel \(3, 3, 4, 4\)"):
        to_torch_state_dict("dncnn", variables, **{**FIELDS, "depth": 4})


@pytest.mark.parametrize(
    ("name", "config"),
    [
        ("dncnn", FIELDS),
        ("dncnn", {**FIELDS, "bias": "first", "norm_epsilon": 0.1}),
        ("unet", {"features": (4, 6), "channels": 1, "bias": False}),
        ("unet_dpir", {"features": (4, 6), "blocks": 1, "channels": 1, "batch_norm": True}),
    ],
)
def test_folding_changes_no_output(name, config, random_variables, jit):
    model = create_model(name, **config)
    variables = random_variables(model)
    images = np.random.default_rng(0).random((1, 8, 8, 1), np.float32)
    folded, folded_variables = fold_batch_norm(model, variables)
    assert not folded.batch_norm and set(folded_variables) == {"params"}
    expected = jit(model.apply)(variables, images)
    restored = jit(folded.apply)(folded_variables, images)
    np.testing.assert_allclose(restored, expected, rtol=0, atol=1e-5 * np.abs(expected).max())


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("drunet", "no form without batch norm"),
        ("unet_scico", "no form"),
        ("dncnn_kair_merged", "no batch norm to fold"),
    ],
)
def test_folding_needs_batch_norm(name, message, random_variables):
    with pytest.raises(ValueError, match=message):
        fold_batch_norm(create_model(name), {})


@pytest.mark.parametrize(
    "wrapped",
    [
        "_orig_mod.{}",
        "module.{}",
        "module.module.{}",
        "_orig_mod.module.{}",
        "module._orig_mod.{}",
        "_fsdp_wrapped_module._orig_mod.{}",
    ],
)
def test_names_of_wrappers_are_removed(wrapped, random_variables):
    state_dict = state_dict_of("dncnn", random_variables, **FIELDS)
    expected = from_torch_state_dict("dncnn", state_dict, **FIELDS)
    keys = {key: wrapped.format(key) for key in state_dict}
    inside = {key: key.replace("dncnn.", f"dncnn.{wrapped.format('')}", 1) for key in state_dict}
    for names in (keys, inside):
        renamed = {names[key]: array for key, array in state_dict.items()}
        found = from_torch_state_dict("dncnn", {**renamed, "n_averaged": np.array(7)}, **FIELDS)
        assert_equal_trees(found, expected)


def test_an_average_is_taken_before_the_weights_themselves(random_variables):
    state_dict = state_dict_of("dncnn", random_variables, **FIELDS)
    average = {key: array + 1 for key, array in state_dict.items()}
    content = {"params": state_dict, "params_ema": average}
    found = from_torch_state_dict("dncnn", content, **FIELDS)["params"]["conv_last"]["kernel"]
    expected = from_torch_state_dict("dncnn", average, **FIELDS)["params"]["conv_last"]["kernel"]
    np.testing.assert_array_equal(found, expected)


def test_an_error_about_many_or_hostile_names_is_short(random_variables):
    state_dict = state_dict_of("dncnn", random_variables, **FIELDS)
    hostile = {f"\x1b[2J{i}\n" + "x" * 300: np.zeros(1) for i in range(5000)}
    with pytest.raises(ValueError, match="and 4950 more") as caught:
        from_torch_state_dict("dncnn", {**state_dict, **hostile}, **FIELDS)
    message = str(caught.value)
    assert len(message.splitlines()) == 52
    assert len(message) < 20_000
    assert "\x1b" not in message
    assert "unknown: \\x1b[2J0\\nxxx" in message


def test_numbers_that_float32_cannot_hold_become_infinite(random_variables):
    state_dict = state_dict_of("dncnn", random_variables, **FIELDS)
    key = "dncnn.dncnn.0.weight"
    state_dict[key] = np.full(state_dict[key].shape, 1e300)
    assert np.isinf(
        from_torch_state_dict("dncnn", state_dict, **FIELDS)["params"]["conv_first"]["kernel"]
    ).all()
