"""A model folder that the check accepts can be loaded; every fault is one line with file and remedy."""

from __future__ import annotations

import random
import shutil
from pathlib import Path

import pytest

from mica_ray.config import ConfigError, RunConfig
from mica_ray.config.overrides import override
from mica_ray.launch.model_folder.check import ModelUse, check_model_folder
from mica_ray.launch.policy_source import fetch_policy
from mica_ray.launch.preflight import check_run
from mica_ray.rollout.chat_template import ChatTemplate
from mica_ray.rollout.engine import EngineError
from mica_ray.rollout.local_engine import LocalEngine
from mica_ray.training.learner import LearnerError
from mica_ray.training.policy_folder import load_policy
from tests.launch.broken_folders import (
    CONFIG,
    FAULTS,
    GENERATION,
    TEMPLATE,
    WEIGHTS,
    both,
    cut,
    fields,
    pickled,
    quantized,
    sharded,
    text,
)
from tests.small_policy import small_folder


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_folder(tmp_path_factory.mktemp("good") / "model", tied=True)


@pytest.fixture
def folder(good: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(good, tmp_path / "model"))


def start(folder: Path) -> None:
    """Load the folder as a run does."""
    template = ChatTemplate.from_folder(folder)
    LocalEngine.from_folder(folder, template)
    load_policy(folder, dtype="float32", gradient_checkpointing=False)


def test_whole_folder_is_accepted_and_starts(folder: Path) -> None:
    check_model_folder(folder, ModelUse(is_trained=True))
    start(folder)


@pytest.mark.parametrize("fault", FAULTS)
def test_fault_is_one_line_with_its_file_and_a_remedy_and_never_a_traceback(folder: Path, fault: str) -> None:
    damage, part = FAULTS[fault]
    damage(folder)
    with pytest.raises(ConfigError) as caught:
        check_model_folder(folder, ModelUse())
    message = str(caught.value)
    assert part in message
    assert message.startswith("policy")
    assert str(folder) in message
    assert "\n" not in message
    assert message.rstrip(".").count(". ") >= 1  # the fault, then the remedy
    # A start without the check is one line too, where the fault stops it at all.
    try:
        start(folder)
    except (EngineError, LearnerError) as error:
        assert "\n" not in str(error)


@pytest.mark.parametrize(
    "harmless",
    [
        sharded(None),
        pickled(1.0),
        text("pytorch_model.bin", "a second format that is not loaded"),
        text("notes.txt", ""),
        fields(CONFIG, auto_map={"AutoConfig": "configuration_own.OwnConfig"}),
        fields(CONFIG, transformers_version="9.0.0"),
        fields(CONFIG, dtype=None, torch_dtype="bfloat16"),
        fields(GENERATION, temperature="hot"),
        lambda at: (at / GENERATION).unlink(),
        lambda at: (at / WEIGHTS).rename(at / "w") and (at / WEIGHTS).symlink_to("w"),
    ],
)  # fmt: skip
def test_what_does_no_harm_is_accepted_and_starts(folder: Path, harmless: object) -> None:
    assert callable(harmless)
    harmless(folder)
    check_model_folder(folder, ModelUse(is_trained=True))
    start(folder)


@pytest.mark.slow
def test_no_random_damage_passes_the_check_and_then_breaks_the_start(good: Path, tmp_path: Path) -> None:
    source, refused = random.Random(5), 0
    for number in range(60):
        folder = Path(shutil.copytree(good, tmp_path / str(number)))
        path = source.choice(sorted(folder.iterdir()))
        content = bytearray(path.read_bytes())
        # Only the header of the weights: other numbers are weights too.
        at = source.randrange(min(len(content), 2000 if path.name == WEIGHTS else len(content)))
        kind = source.choice(["cut", "flip", "insert", "delete"])
        if kind == "cut":
            del content[at:]
        elif kind == "flip":
            content[at] ^= 1 << source.randrange(8)
        elif kind == "insert":
            content[at:at] = bytes(source.randrange(256) for _ in range(3))
        else:
            del content[at : at + 3]
        path.write_bytes(content)
        try:
            check_model_folder(folder, ModelUse())
        except ConfigError as error:
            refused += 1
            assert "\n" not in str(error)
        else:
            start(folder)
        shutil.rmtree(folder)
    assert refused > 30


def test_quantized_weights_are_for_engines_and_not_for_learners(folder: Path) -> None:
    quantized("gptq", bits=4)(folder)
    check_model_folder(folder, ModelUse(loader="vllm"))
    with pytest.raises(ConfigError, match=r"are quantized \(gptq\), and a learner cannot train them"):
        check_model_folder(folder, ModelUse(loader="vllm", is_trained=True))


@pytest.mark.parametrize(
    ("method", "part"),
    [
        ("bitsandbytes", "needs the package bitsandbytes, which is not installed"),
        ("zzz", "vllm does not know"),
    ],
)
def test_quantization_that_vllm_cannot_load_is_refused(folder: Path, method: str, part: str) -> None:
    quantized(method)(folder)
    with pytest.raises(ConfigError, match=part):
        check_model_folder(folder, ModelUse(loader="vllm"))


def test_weights_are_not_required_before_they_are_downloaded(folder: Path) -> None:
    (folder / WEIGHTS).unlink()
    check_model_folder(folder, ModelUse(), has_weights=False)
    cut(TEMPLATE, 0.5)(folder)
    with pytest.raises(ConfigError, match="cannot render"):
        check_model_folder(folder, ModelUse(), has_weights=False)


def test_folder_that_changes_after_it_passed_is_checked_again(folder: Path) -> None:
    check_model_folder(folder, ModelUse())
    cut(WEIGHTS, 0.5)(folder)
    with pytest.raises(ConfigError, match="is cut off"):
        check_model_folder(folder, ModelUse())


@pytest.mark.parametrize(
    ("make", "part"),
    [
        (lambda at: at.write_text("x"), "is a file. Use the folder"),
        (lambda at: at.symlink_to(at), "no such folder"),
        (lambda at: at.mkdir(), "config.json is missing"),
        (lambda at: None, "no such folder"),
    ],
)
def test_path_that_is_no_model_folder_is_refused(tmp_path: Path, make: object, part: str) -> None:
    assert callable(make)
    make(tmp_path / "model")
    config = override(RunConfig(), [f"policy={tmp_path / 'model'}", "rollout.context_length=512"])
    with pytest.raises(ConfigError, match=part):
        check_run(config, inline=True, environment={}, gpus_here=0)


def test_name_that_is_too_long_for_a_path_is_refused() -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        fetch_policy("/" + "a" * 5000)


def test_policy_of_a_run_is_checked_as_what_it_is_used_for(folder: Path) -> None:
    both(fields(CONFIG, max_position_embeddings=1024), quantized("gptq", bits=4))(folder)
    config = override(RunConfig(), [f"policy={folder}"])
    with pytest.raises(ConfigError, match="a learner cannot train"):
        check_run(config, inline=False, environment={}, gpus_here=0)
    check_run(config, inline=False, environment={}, gpus_here=0, learns=False)
    with pytest.raises(ConfigError, match="optimum"):
        check_run(config, inline=True, environment={}, gpus_here=0, learns=False)
