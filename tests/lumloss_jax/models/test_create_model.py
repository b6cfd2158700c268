"""create_model: names, fields, and the error where Flax is not installed."""

import importlib
import sys

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
