"""create_model: names, fields, and the error where Flax is not installed."""

import importlib
import re
import sys

import jax.numpy as jnp
import numpy as np
import pytest

from lumloss_jax.models import PRESETS, create_model


def test_a_preset_sets_fields_and_config_overrides_them():
    model = create_model("dncnn_blind")
    assert (model.depth, model.features) == (20, 64)
    model = create_model("dncnn_blind", depth=5, features=8)
    assert (model.depth, model.features) == (5, 8)


def test_models_hash_and_compare_by_their_fields():
    for name in PRESETS:
        assert create_model(name) == create_model(name)
        assert hash(create_model(name)) == hash(create_model(name))


def test_unknown_name_and_field_name_the_nearest():
    with pytest.raises(ValueError, match=r"'dncnn'.*got 'dncn'; did you mean 'dncnn'"):
        create_model("dncn")
    with pytest.raises(ValueError, match=r"'depth'.*got 'dept'; did you mean 'depth'"):
        create_model("dncnn", dept=3)
    with pytest.raises(ValueError, match="got 'parent'"):
        create_model("dncnn", parent=None)


def test_without_flax_the_error_names_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "flax", None)
    for module in [name for name in sys.modules if name.startswith("lumloss_jax.models")]:
        monkeypatch.delitem(sys.modules, module)
    with pytest.raises(ImportError, match="pip install flax"):
        importlib.import_module("lumloss_jax.models")


@pytest.mark.parametrize(
    ("name", "fields", "message"),
    [
        ("dncnn", {"depth": 3.5}, "depth must be a whole number; got 3.5"),
        ("dncnn", {"depth": True}, "depth must be a whole number; got True"),
        ("dncnn", {"batch_norm": 1}, "batch_norm must be True or False; got 1"),
        ("dncnn", {"norm_epsilon": float("nan")}, "norm_epsilon must be a finite number; got nan"),
        ("dncnn", {"dtype": "x"}, "dtype must be a number format for floats"),
        ("dncnn", {"dtype": "int8"}, "dtype must be a number format for floats"),
        ("dncnn", {"bias": 3}, "bias must be a name in quotes or None; got 3"),
        ("unet", {"features": 8}, "features must be a tuple of whole numbers"),
        ("unet", {"features": ("a",)}, "features must be a tuple of whole numbers"),
    ],
)
def test_a_value_of_a_wrong_type_is_an_error_before_tracing(name, fields, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        create_model(name, **fields)


def test_numpy_numbers_and_dtypes_in_any_form_are_accepted():
    for dtype in ("float32", jnp.bfloat16, np.dtype("float16")):
        create_model("dncnn", depth=np.int64(3), norm_epsilon=np.float32(1e-5), dtype=dtype)
