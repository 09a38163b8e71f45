"""Configs written to JSON and read back, and recipes in files."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from mica_ray.cli import main
from mica_ray.cli.recipes import read_recipe
from mica_ray.config import ConfigError, RoleConfig, RunConfig
from mica_ray.config.overrides import override
from mica_ray.config.references import load_module_file, resolve
from mica_ray.dialogue.progress import ProgressRules
from mica_ray.domains.empa import EMPA
from mica_ray.domains.empa.official import OFFICIAL_IDS
from mica_ray.domains.tutoring import TUTORING
from mica_ray.evaluation.comparable import played_as, reasons_not_comparable
from mica_ray.types import Sampling, TurnRewards
from tests.config.own_roles import ENDPOINT


@dataclass(frozen=True, slots=True)
class EveryTurnOne:
    """A user-defined estimator, as in a recipe."""

    scale: float = 1.0

    def __call__(self, turns: TurnRewards) -> np.ndarray:
        return np.where(turns.valid, self.scale, 0.0)


def test_config_survives_json(tmp_path: Path) -> None:
    config = RunConfig(
        credit=EveryTurnOne(scale=2.0),
        domain=TUTORING,  # pyright: ignore[reportArgumentType] -- a recipe may give the value itself
        roles=RoleConfig(judge=ENDPOINT, actor="vllm:Qwen/Qwen3-8B"),
        out=Path("runs/x"),
    )
    config.write(tmp_path / "config.json")
    again = RunConfig.read(tmp_path / "config.json", trusted=True)
    assert again == config
    assert again.credit == EveryTurnOne(scale=2.0)
    assert again.domain == "mica_ray.domains.tutoring:TUTORING"
    assert again.roles.served_models == ("Qwen/Qwen3-8B",)


def test_estimator_of_a_recipe_file_is_found_again(tmp_path: Path) -> None:
    recipe = tmp_path / "mine.py"
    recipe.write_text(
        "from dataclasses import dataclass\nimport numpy as np\nfrom mica_ray.config import RunConfig\n"
        "@dataclass(frozen=True)\nclass Mine:\n    beta: float = 1.0\n"
        "    def __call__(self, turns):\n        return np.where(turns.valid, self.beta, 0.0)\n"
        "CONFIG = RunConfig(credit=Mine(beta=0.5))\n"
    )
    config = resolve(f"{recipe}:CONFIG")
    assert isinstance(config, RunConfig)
    again = RunConfig.model_validate_json(config.model_dump_json())
    assert again.credit == config.credit
    assert override(config, ["credit.beta=0.25"]).model_dump()["credit"]["beta"] == 0.25


def test_unknown_key_of_a_stored_config_is_named(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"loop": {"num_stepz": 3}}))
    with pytest.raises(ConfigError, match=r"Unknown key loop.num_stepz\. Did you mean num_steps\?"):
        RunConfig.read(tmp_path / "config.json")


def test_broken_recipe_is_one_line_with_its_error(tmp_path: Path) -> None:
    (tmp_path / "bad.py").write_text("raise RuntimeError('two\\nlines')\n")
    with pytest.raises(ConfigError, match=r"bad.py failed with RuntimeError: two$"):
        load_module_file(tmp_path / "bad.py")


def test_chat_template_arguments_keep_their_types_in_json() -> None:
    config = override(RunConfig(), ['chat_template_arguments={"enable_thinking": false, "depth": 2}'])
    again = RunConfig.model_validate_json(config.model_dump_json())
    assert again.chat_template_arguments == {"enable_thinking": False, "depth": 2}
    assert again.chat_template_arguments["enable_thinking"] is False


@pytest.mark.parametrize(
    ("recipe", "max_turns"),
    [("mica_qwen25_7b.py:CONFIG", 15), ("mica_qwen3.py:qwen3_8b", 15), ("mica_qwen3.py:qwen3_14b", 30),
     ("mica_qwen3.py:qwen3_32b", 30)],
)  # fmt: skip
def test_recipe_of_the_paper_says_when_a_dialogue_ends(recipe: str, max_turns: int) -> None:
    found = resolve(f"{Path(__file__).parents[2]}/experiments/{recipe}")
    config = found() if callable(found) else found
    assert isinstance(config, RunConfig)
    assert config.rules == ProgressRules(max_turns=max_turns, check_from=12)
    thinking = {"enable_thinking": False} if "Qwen3" in config.policy else {}
    assert config.chat_template_arguments == thinking


PAPER = (
    "mica_qwen25_7b.py", "mica_qwen3.py:qwen3_8b", "mica_qwen3.py:qwen3_14b", "mica_qwen3.py:qwen3_32b",
    "swap_judge.py:qwen_endpoint", "swap_judge.py:minimax_endpoint", "swap_judge.py:glm_endpoint",
    "swap_judge.py:qwen_served", "swap_judge.py:minimax_served", "swap_judge.py:glm_served",
)  # fmt: skip
"""Recipes that carry the paper's figures."""


@pytest.mark.parametrize("recipe", PAPER)
def test_recipe_of_the_paper_is_evaluated_as_the_published_scores(recipe: str) -> None:
    config = read_recipe(f"{Path(__file__).parents[2]}/experiments/{recipe}")
    played = played_as(config.model_dump(mode="json"), OFFICIAL_IDS, domain=EMPA)
    assert reasons_not_comparable(played) == ()
    assert config.evaluation.split == "test"
    assert config.evaluation_roles is not None
    assert config.evaluation_roles.max_tokens == 8192  # Gemini thinks.
    again = RunConfig.model_validate_json(config.model_dump_json())
    assert again == config


@pytest.mark.parametrize("recipe", PAPER)
def test_recipe_of_the_paper_refuses_to_start_without_cards(
    recipe: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        main(("train", f"{Path(__file__).parents[2]}/experiments/{recipe}", "--dry-run"))
    assert caught.value.code == 2
    message = " ".join(capsys.readouterr().err.split())
    assert "domain empa has no scenarios. Set cards=FOLDER for EMPA cards, or scenarios_file=FILE." in message
    assert "https://github.com/KAYA-HAI/EMPA-Benchmark-EPMSandbox" in message


def test_evaluation_that_cannot_be_played_is_refused() -> None:
    for assignment, problem in (
        ("rollout.sampling.presence_penalty=0.5", r"presence_penalty must be 0, because .* got 0.5\."),
        ("evaluation.max_tokens=1024", r"max_tokens must be < rollout.context_length \(1024\), got 1024"),
        ("evaluation_roles=vllm:some/judge", "evaluation_roles must not need an engine, got vllm:some/judge"),
        ("evaluation.top_p=0", r"top_p must be in \(0, 1\], got 0"),
        ("evaluation.presence_penalty=2.5", r"presence_penalty must be in \[-2, 2\], got 2.5"),
    ):
        with pytest.raises(ConfigError, match=problem):
            override(RunConfig(), [assignment])
    config = override(RunConfig(), ["evaluation.max_tokens=1023", "evaluation.presence_penalty=-2"])
    sampling = config.evaluation.sampling_after(Sampling(temperature=1.0, top_p=0.9, max_tokens=40))
    # The embedded run's own evaluation temperature; top_p as in training.
    assert sampling == Sampling(temperature=0.7, top_p=0.9, max_tokens=1023, presence_penalty=-2.0)
