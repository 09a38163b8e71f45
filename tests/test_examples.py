"""The examples in docstrings run, and every central type and function has one."""

from __future__ import annotations

import doctest
import importlib
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[1]

CENTRAL = {
    "mica_ray.types.dialogue": "Message Scenario Status Judgement Generation RoleAnswer Turn Trajectory",
    "mica_ray.types.training": "TurnRewards TokenBatch PolicyWeights UpdateReport",
    "mica_ray.checks": "at_least above within one_of",
    "mica_ray.rewards": "Rewards zone_distance norm_distance",
    "mica_ray.losses": "LossConfig policy_loss",
    "mica_ray.head_logprobs": "head_logprobs",
    "mica_ray.statistics": "bootstrap_mean paired_difference wilson",
    "mica_ray.credit.returns": "discounted_returns dialogue_rewards",
    "mica_ray.credit.normalize": "turn_segments group_segments segment_sizes standardize",
    "mica_ray.credit.tokens": "spread_over_tokens",
    "mica_ray.credit.token_credit": "turns_of_replies token_advantages",
    "mica_ray.credit.estimator": "check_estimator",
    "mica_ray.credit.mica": "Mica",
    "mica_ray.credit.grpo": "Grpo",
    "mica_ray.credit.rloo": "Rloo",
    "mica_ray.credit.reinforce_pp": "ReinforcePlusPlus",
    "mica_ray.credit.return_to_go": "ReturnToGo",
    "mica_ray.credit.lambda_returns": "LambdaReturns",
    "mica_ray.credit.anchor_states": "AnchorStates",
    "mica_ray.credit.turn_gae": "TurnGae",
}
"""Module to the names that must have an example."""


def prompts_in(path: Path) -> int:
    return sum(line.lstrip().startswith(">>> ") for line in path.read_text(encoding="utf-8").splitlines())


def modules_with_examples() -> list[str]:
    """List the modules whose source has a prompt, without importing any."""
    paths = [path for path in sorted((ROOT / "mica_ray").rglob("*.py")) if prompts_in(path)]
    return [
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__") for path in paths
    ]


def run_examples(module: ModuleType) -> tuple[list[str], int]:
    """Run the examples of a module; return the reports of those that fail, and the number of prompts."""
    reports: list[str] = []
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS, verbose=False)
    tests = [test for test in doctest.DocTestFinder().find(module) if test.examples]
    for test in tests:
        runner.run(test, out=reports.append)
    return reports, sum(len(test.examples) for test in tests)


@pytest.mark.parametrize("name", modules_with_examples())
def test_examples_of_module(name: str) -> None:
    module = importlib.import_module(name)
    reports, num_prompts = run_examples(module)
    assert not reports, "".join(reports)
    # A prompt in the docstring of a field would never run: doctest does not see it.
    assert module.__file__ is not None
    assert num_prompts == prompts_in(Path(module.__file__))


@pytest.mark.parametrize(("printed", "num_reports"), [("2", 0), ("3", 1)])
def test_wrong_example_is_reported(printed: str, num_reports: int) -> None:
    module = ModuleType("example", f">>> 1 + 1\n{printed}\n")
    reports, num_prompts = run_examples(module)
    assert (len(reports), num_prompts) == (num_reports, 1)


@pytest.mark.parametrize("module", CENTRAL)
def test_central_values_have_an_example(module: str) -> None:
    held = importlib.import_module(module)
    missing = [name for name in CENTRAL[module].split() if ">>> " not in (getattr(held, name).__doc__ or "")]
    assert not missing, f"{module}: add a worked example to the docstring of {', '.join(missing)}."
