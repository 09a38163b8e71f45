"""A run that trains an adapter, and what can be done with the policy it saved."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch

from mica_ray.cli.commands import main
from mica_ray.config import RunConfig
from mica_ray.config.overrides import override
from mica_ray.config.references import ConfigError
from mica_ray.launch import run
from mica_ray.launch.policy_source import fetch_policy, is_here, merge_policy, read_policy_facts
from mica_ray.runs.folder import RunFolder
from tests.launch import trained_run
from tests.small_policy import small_folder

SETTINGS = (
    "loop.num_steps=1", "loop.scenarios_per_step=1", "learner.mini_batches=1", "rollout.group_size=2",
    "rollout.sampling.max_tokens=6", "rollout.context_length=512", "seed=3", "learner.learning_rate=0.01",
    'learner.lora={"rank": 2, "targets": ["q_proj", "up_proj"]}',
)  # fmt: skip


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "mica_ray" / "merged"


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, RunFolder]:
    root = tmp_path_factory.mktemp("lora")
    base = small_folder(root / "base", tied=True)
    return base, trained_run.train(root / "run", [*SETTINGS, f"policy={base}"])[0]


def adapter_of(folder: RunFolder) -> Path:
    return next(folder.checkpoints.glob("step-*")) / "learner" / "policy"


def weights(folder: Path) -> dict[str, torch.Tensor]:
    from safetensors.torch import load_file

    return load_file(folder / "model.safetensors")


def copied(trained: tuple[Path, RunFolder], place: Path, **fields: object) -> Path:
    """Copy the adapter, with other values in its config."""
    adapter = Path(shutil.copytree(adapter_of(trained[1]), place))
    path = adapter / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))
    return adapter


def test_run_saves_only_the_adapter_and_names_its_base(trained: tuple[Path, RunFolder]) -> None:
    base, folder = trained
    adapter = adapter_of(folder)
    assert not (adapter / "model.safetensors").exists()
    assert json.loads((adapter / "adapter_config.json").read_text())["base_model_name_or_path"] == str(base)
    assert RunConfig.read(folder.config_file).learner.lora is not None


def test_policy_of_the_run_is_the_base_with_the_adapter(trained: tuple[Path, RunFolder], cache: Path) -> None:
    base, folder = trained
    adapter = adapter_of(folder)
    found = fetch_policy(str(adapter))
    assert found.parent == cache
    before, after = weights(base), weights(found)
    moved = {name.split(".")[-2] for name in before if not torch.equal(before[name], after[name])}
    assert moved == {"q_proj", "up_proj"}
    written = (found / "model.safetensors").stat().st_mtime_ns
    assert fetch_policy(str(adapter)) == found
    assert (found / "model.safetensors").stat().st_mtime_ns == written
    # Before its weights are needed, nothing is merged.
    assert fetch_policy(str(adapter), weights=False) == base
    assert read_policy_facts(base).architecture == "Qwen3ForCausalLM"
    assert is_here(str(adapter))


def test_run_with_an_adapter_is_evaluated(trained: tuple[Path, RunFolder], cache: Path) -> None:
    settings = ["evaluation.max_scenarios=1", "evaluation.samples=1"]
    config = override(RunConfig.read(trained[1].config_file), [*settings, f"policy={adapter_of(trained[1])}"])
    evaluation = run.evaluate_policy(run.check(config, inline=True, learns=False))
    assert len(evaluation.dialogues) == 1
    assert len(list(cache.iterdir())) == 1


def test_adapter_is_the_base_of_another(trained: tuple[Path, RunFolder], tmp_path: Path) -> None:
    first = adapter_of(trained[1])
    folder, _ = trained_run.train(tmp_path / "second", [*SETTINGS, f"policy={first}"])
    second = adapter_of(folder)
    assert json.loads((second / "adapter_config.json").read_text())["base_model_name_or_path"] == str(first)
    assert weights(fetch_policy(str(second))).keys() == weights(trained[0]).keys()


def test_merge_writes_a_model_that_transformers_loads(trained: tuple[Path, RunFolder]) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    with pytest.raises(SystemExit) as ending:
        main(["merge", str(trained[1].path)])
    assert ending.value.code == 0
    merged = trained[1].path / "merged"
    expected = weights(fetch_policy(str(adapter_of(trained[1]))))
    model = AutoModelForCausalLM.from_pretrained(merged)
    assert all(torch.equal(value, expected[name]) for name, value in model.named_parameters())
    text = "A made-up sentence."
    assert AutoTokenizer.from_pretrained(merged)(text) == AutoTokenizer.from_pretrained(trained[0])(text)
    with pytest.raises(ConfigError, match=r"exists\. Choose another folder"):
        merge_policy(str(adapter_of(trained[1])), merged)


def test_whole_model_is_not_merged(trained: tuple[Path, RunFolder], tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is no adapter"):
        merge_policy(str(trained[0]), tmp_path / "out")


def test_missing_base_is_named(trained: tuple[Path, RunFolder], tmp_path: Path) -> None:
    adapter = copied(trained, tmp_path / "adapter", base_model_name_or_path=str(tmp_path / "gone"))
    with pytest.raises(ConfigError, match=r"adapter: the base model of this adapter is missing \(.*gone"):
        fetch_policy(str(adapter))
    assert not is_here(str(adapter))


def test_adapter_without_a_base_is_refused(trained: tuple[Path, RunFolder], tmp_path: Path) -> None:
    adapter = copied(trained, tmp_path / "adapter", base_model_name_or_path=None)
    with pytest.raises(ConfigError, match=r"names no base model\. Set base_model_name_or_path"):
        fetch_policy(str(adapter), weights=False)


def test_base_with_other_weights_is_refused(trained: tuple[Path, RunFolder], tmp_path: Path) -> None:
    other = small_folder(tmp_path / "other", tied=True, seed=1)
    adapter = copied(trained, tmp_path / "adapter", base_model_name_or_path=str(other))
    with pytest.raises(ConfigError, match="has other weights than the base model"):
        fetch_policy(str(adapter))


def test_adapter_that_is_its_own_base_is_refused(trained: tuple[Path, RunFolder], tmp_path: Path) -> None:
    place = tmp_path / "adapter"
    copied(trained, place, base_model_name_or_path=str(place))
    with pytest.raises(ConfigError, match="is its own base model"):
        fetch_policy(str(place))


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ('{"rank": 0}', "rank must be in"),
        ('{"rnk": 4}', "Unknown key learner.lora.rnk"),
        ('{"targets": ["lm_head"]}', "Head and embeddings"),
    ],
)
def test_wrong_settings_are_refused_in_one_line(value: str, text: str) -> None:
    with pytest.raises(ConfigError, match=text) as caught:
        override(RunConfig(), [f"learner.lora={value}"])
    assert "learner.lora" in str(caught.value) and "\n" not in str(caught.value)
