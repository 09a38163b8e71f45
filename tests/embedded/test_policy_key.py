"""The key of an embedded policy changes with what its weights follow from, and with nothing else."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import pytest

from mica_ray.dialogue.domain import Axis, Domain
from mica_ray.dialogue.potential import Potential
from mica_ray.dialogue.progress import ProgressRules
from mica_ray.domains.emotional_support import EMOTIONAL_SUPPORT
from mica_ray.domains.role_prompts_zh import SUPPORT_PROMPTS_ZH
from mica_ray.domains.tutoring import TUTORING
from mica_ray.embedded.policy_key import code_of, embedded_sources, policy_key
from mica_ray.embedded.recipe import EmbeddedPolicyRecipe
from mica_ray.types import Scenario

RECIPE = EmbeddedPolicyRecipe()
KEY = policy_key(EMOTIONAL_SUPPORT, RECIPE)

DOMAIN: dict[str, tuple[Any, bool]] = {
    "name": ("other", False),
    "actor_prompt": ("other", False),
    "director_prompt": ("other", False),
    "judge_prompt": ("other", False),
    "translations": ((), False),
    "shows_needs": (False, False),
    "policy_prompt": ("Be kind.", True),
    "need_order": (("C", "A", "P"), True),
    "potential": (Potential(), True),
    "axes": (None, True),
    "rules": (None, True),
    "scenarios": ((), True),
}
"""By field: another value, and whether the weights follow from it. None: covered by another test."""
AXIS: dict[str, tuple[Any, bool]] = {
    "key": ("X", False),
    "name": ("other", False),
    "progress_levels": (("a", "b", "c"), False),
    "regress_levels": (("a", "b", "c"), False),
    "regress_points": ((0.0, -1.0, -2.0), True),
    "progress_points": ((0.0, 1.0, 2.0), True),
}
RULES: dict[str, tuple[Any, bool]] = {
    "max_turns": (99, False),
    "check_from": (5, True),
    "tolerance": (0.2, True),
    "collapse_window": (7, True),
    "stall_window": (7, True),
    "stall_deviation": (0.7, True),
    "stall_lookback": (9, True),
    "stall_negative_fraction": (0.6, True),
    "stall_energy": (-2.0, True),
    "give_up_norm": (50.0, True),
    "oscillation_window": (12, True),
    "oscillation_distance": (2.0, True),
}
SCENARIO: dict[str, tuple[Any, bool]] = {
    "id": ("other", False),
    "domain": ("other", False),
    "category": ("other", False),
    "dominant_axis": ("P", False),
    "persona": ("Somebody else.", False),
    "language": ("zh", False),
    "difficulty": ("hard", False),
    "priorities": (("low", "high", "mid"), False),
    "opening": ("It is the new boss again.", True),
    "initial_state": ((-1.0, -2.0, -3.0), True),
    "stages": (("a", "b", "c"), True),
    "topic": ("the old boss", True),
    "split": ("test", True),
}


def cases(table: dict[str, tuple[Any, bool]]) -> list[tuple[str, Any, bool]]:
    return [(name, value, follows) for name, (value, follows) in table.items() if value is not None]


@pytest.mark.parametrize(
    ("kind", "table"), [(Domain, DOMAIN), (Axis, AXIS), (ProgressRules, RULES), (Scenario, SCENARIO)]
)
def test_every_field_is_decided_upon(kind: type, table: dict[str, tuple[Any, bool]]) -> None:
    # A new field that the warm-up reads, and the key does not, would keep a policy that is out of date.
    assert {field.name for field in fields(kind)} == set(table)


@pytest.mark.parametrize(("name", "value", "follows"), cases(DOMAIN))
def test_field_of_the_domain(name: str, value: Any, follows: bool) -> None:
    changed = replace(EMOTIONAL_SUPPORT, **{name: value})
    assert (policy_key(changed, RECIPE) != KEY) is follows


@pytest.mark.parametrize(("name", "value", "follows"), cases(AXIS))
def test_field_of_an_axis(name: str, value: Any, follows: bool) -> None:
    first, second, third = EMOTIONAL_SUPPORT.axes
    changed = replace(EMOTIONAL_SUPPORT, axes=(replace(first, **{name: value}), second, third))
    assert (policy_key(changed, RECIPE) != KEY) is follows


@pytest.mark.parametrize(("name", "value", "follows"), cases(RULES))
def test_field_of_the_rules(name: str, value: Any, follows: bool) -> None:
    changed = replace(EMOTIONAL_SUPPORT, rules=replace(EMOTIONAL_SUPPORT.rules, **{name: value}))
    assert (policy_key(changed, RECIPE) != KEY) is follows


@pytest.mark.parametrize(("name", "value", "follows"), cases(SCENARIO))
def test_field_of_a_training_scenario(name: str, value: Any, follows: bool) -> None:
    first, *others = EMOTIONAL_SUPPORT.scenarios
    assert first.split == "train"
    changed = replace(EMOTIONAL_SUPPORT, scenarios=(replace(first, **{name: value}), *others))
    assert (policy_key(changed, RECIPE) != KEY) is follows


def test_scenario_that_is_kept_for_measuring_is_not_in_the_key() -> None:
    scenarios = tuple(
        one if one.split == "train" else replace(one, opening="other") for one in EMOTIONAL_SUPPORT.scenarios
    )
    assert policy_key(replace(EMOTIONAL_SUPPORT, scenarios=scenarios), RECIPE) == KEY


def test_domain_and_every_field_of_the_recipe_give_another_key() -> None:
    recipes = [
        replace(RECIPE, **{field.name: (9,) if field.name == "num_turns" else 9}) for field in fields(RECIPE)
    ]
    keys = [policy_key(TUTORING, RECIPE), *(policy_key(EMOTIONAL_SUPPORT, recipe) for recipe in recipes), KEY]
    assert len(set(keys)) == len(keys)
    assert policy_key(EMOTIONAL_SUPPORT, replace(RECIPE)) == KEY


@pytest.mark.parametrize(
    ("file", "before", "after", "follows"),
    [
        ("world.py", "HALF = 0.5", "HALF = 0.6", True),
        ("words.py", '"overwhelming"', '"hefty"', True),
        ("roles.py", '"That stings."', '"That hurts."', True),
        ("world.py", '"""', '"""Another docstring. ', False),
        ("world.py", "HALF = 0.5", "HALF = 0.5  # a comment", False),
        ("world.py", "HALF = 0.5", "HALF = (\n    0.5\n)", False),
    ],
)
def test_code_of_the_world(file: str, before: str, after: str, follows: bool) -> None:
    sources = embedded_sources()
    assert before in sources[file]
    changed = {**sources, file: sources[file].replace(before, after, 1)}
    assert (policy_key(EMOTIONAL_SUPPORT, RECIPE, sources=changed) != KEY) is follows


def test_all_source_files_are_in_the_key() -> None:
    assert set(embedded_sources()) >= {"reply_reader.py", "world.py", "roles.py", "grammar.py", "policy.py"}


def test_code_keeps_texts_that_are_values() -> None:
    source = 'class A:\n    """What it is."""\n    x: int = 1\n    """What x is."""\nTEXT = """kept"""\n'
    assert code_of(source) == "class A:\n    x: int = 1\nTEXT = 'kept'"


def test_translations_are_there_to_be_left_out() -> None:
    assert EMOTIONAL_SUPPORT.translations == (SUPPORT_PROMPTS_ZH,)
