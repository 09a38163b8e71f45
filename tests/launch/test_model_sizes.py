"""Sizes in config.json that no model of the folder can have are refused before anything is built."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from mica_ray.config import ConfigError
from mica_ray.launch.model_folder.check import ModelUse, check_model_folder
from mica_ray.launch.model_folder.sizes import MAX_LAYERS, check_sizes, compare_sizes
from mica_ray.launch.model_folder.weight_files import check_weight_files
from tests.launch.broken_folders import CONFIG, fields, pickled, sharded
from tests.small_policy import small_folder

# Building the model takes 30 ms per layer: a check that builds first would not end in this time.
pytestmark = pytest.mark.timeout(30, func_only=True)


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_folder(tmp_path_factory.mktemp("good") / "model", tied=True)


@pytest.fixture
def folder(good: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(good, tmp_path / "model"))


IMPOSSIBLE = (-1, -(10**9), 10**12, 10**30, 1e9, 2.5, True, "many", [64, -1], {"size": 64})
SIZES = (
    "num_hidden_layers",
    "hidden_size",
    "vocab_size",
    "intermediate_size",
    "num_attention_heads",
    "num_key_value_heads",
    "head_dim",
    "max_position_embeddings",
    "num_experts",
)


@pytest.mark.parametrize("name", SIZES)
def test_size_that_no_model_has_is_refused_by_its_name(folder: Path, name: str) -> None:
    whole = json.loads((folder / CONFIG).read_text())
    for value in IMPOSSIBLE:
        with pytest.raises(ConfigError, match=rf"config.json: {name} must be an integer in ") as caught:
            check_sizes(folder, "policy", {**whole, name: value})
        assert str(caught.value).endswith("Correct config.json, or download the model again.")
    # Before the weights are downloaded too, and in the configuration of a part.
    fields(CONFIG, **{name: 10**12})(folder)
    with pytest.raises(ConfigError, match=f"config.json: {name} must"):
        check_model_folder(folder, ModelUse(), has_weights=False)
    with pytest.raises(ConfigError, match=rf"config.json: text_config\.{name} must"):
        check_sizes(folder, "policy", {"text_config": {name: 10**12}})


def test_zero_is_refused_where_every_model_has_the_part(folder: Path) -> None:
    for name in ("num_hidden_layers", "hidden_size", "vocab_size", "num_attention_heads", "head_dim"):
        with pytest.raises(ConfigError, match=r"must be an integer in \[1, \d+\], got 0"):
            check_sizes(folder, "policy", {name: 0})
        check_sizes(folder, "policy", {name: 1})
    check_sizes(folder, "policy", {"num_experts": 0, "num_key_value_heads": None, "hidden_size": [64, 128]})


def test_limits_of_layers_and_sizes(folder: Path) -> None:
    for name, most in (("num_hidden_layers", 4096), ("num_experts", 4096), ("hidden_size", 2**30)):
        check_sizes(folder, "policy", {name: most})
        with pytest.raises(ConfigError, match=f"got {most + 1}"):
            check_sizes(folder, "policy", {name: most + 1})
    check_sizes(folder, "policy", {"layer_types": ["full_attention"] * MAX_LAYERS})
    with pytest.raises(ConfigError, match="layer_types must have at most 4096 entries, got 4097"):
        check_sizes(folder, "policy", {"layer_types": ["full_attention"] * (MAX_LAYERS + 1)})


@pytest.mark.parametrize("damage", [sharded(None), pickled(1.0), lambda at: None])
@pytest.mark.parametrize(
    ("name", "value", "part"),
    [
        # The small model has 2 layers; its longest dimension is the vocabulary of 384.
        ("num_hidden_layers", 4000, "num_hidden_layers is 4000, but the weight files have 2 layers"),
        ("hidden_size", 385, "hidden_size is 385, but no tensor of the weight files is longer than 384"),
        ("vocab_size", 385, "vocab_size is 385, but no tensor"),
        ("intermediate_size", 2**30, "intermediate_size is 1073741824, but no tensor"),
        ("num_attention_heads", 10**6, "num_attention_heads is 1000000, but no tensor"),
        ("head_dim", 10**9, "head_dim is 1000000000, but no tensor"),
    ],
)
def test_size_above_those_of_the_weight_files_is_refused_by_its_name(
    folder: Path, damage: object, name: str, value: int, part: str
) -> None:
    assert callable(damage)
    damage(folder)
    fields(CONFIG, layer_types=None, **{name: value})(folder)
    with pytest.raises(ConfigError, match=part) as caught:
        check_model_folder(folder, ModelUse())
    assert str(folder / CONFIG) in str(caught.value)


def test_sizes_at_those_of_the_weight_files_pass(folder: Path) -> None:
    shapes = check_weight_files(folder, "policy")
    assert shapes["model.embed_tokens.weight"] == (384, 64)
    compare_sizes(folder, "policy", {"num_hidden_layers": 2, "vocab_size": 384}, shapes)
    # Of an encoder whose tensors are not there, and of files whose names are unknown.
    compare_sizes(folder, "policy", {"vision_config": {"num_hidden_layers": 32}}, shapes)
    compare_sizes(folder, "policy", {"num_hidden_layers": 32}, {})
    with pytest.raises(
        ConfigError, match=r"text_config\.num_hidden_layers is 3, but the weight files have 2"
    ):
        compare_sizes(folder, "policy", {"text_config": {"num_hidden_layers": 3}}, shapes)


def test_layers_are_counted_by_the_first_number_of_a_name(folder: Path) -> None:
    # Layer 5 has expert 900: six layers. A name like this is no layer's number.
    shapes = {"model.layers.5.mlp.experts.900.up_proj.weight": (8, 8), f"a.{'9' * 5000}.b": (8,)}
    compare_sizes(folder, "policy", {"num_hidden_layers": 6}, shapes)
    with pytest.raises(ConfigError, match="have 6 layers"):
        compare_sizes(folder, "policy", {"num_hidden_layers": 7}, shapes)
