"""What holds for every Domain value of the package."""

from __future__ import annotations

import pickle
import re
from importlib import import_module
from math import ceil
from pkgutil import iter_modules

import pytest

from mica_ray import domains
from mica_ray.dialogue.director import Move
from mica_ray.dialogue.domain import Domain
from mica_ray.dialogue.judger import judgement_schema
from mica_ray.domains.loader import load_domain
from mica_ray.domains.rubric import judge_fields


def _found() -> dict[str, Domain]:
    """Every Domain of the folder by "module:NAME": a new domain file is tested without being listed."""
    return {
        f"{entry.name}:{name}": value
        for entry in iter_modules(domains.__path__, prefix="mica_ray.domains.")
        for name, value in vars(import_module(entry.name)).items()
        # A world with one scalar has neither levels nor a Director: its own tests are in test_sage.py.
        if isinstance(value, Domain) and value.potential is None
    }


FOUND = _found()
every_domain = pytest.mark.parametrize("path", sorted(FOUND))


def test_the_folder_holds_the_three_domains_each_under_its_own_name() -> None:
    names = [domain.name for domain in FOUND.values()]
    assert {"customer_support", "emotional_support", "tutoring"} <= set(names)
    assert len(names) == len(set(names))


@every_domain
def test_domain_is_named_by_its_path_and_survives_pickling(path: str) -> None:
    assert load_domain(path) is FOUND[path]
    assert pickle.loads(pickle.dumps(FOUND[path])) == FOUND[path]


@every_domain
def test_axes_stand_in_the_order_of_the_state_vector_with_the_points_of_the_method(path: str) -> None:
    domain = FOUND[path]
    assert [axis.key for axis in domain.axes] == ["C", "A", "P"]
    # Best and worst pair of levels: 3 + 0 on every axis; 0 - 4 on C, 0 - 5 on A and P.
    assert [axis.points(2, 0) for axis in domain.axes] == [3.0, 3.0, 3.0]
    assert [axis.points(0, -2) for axis in domain.axes] == [-4.0, -5.0, -5.0]
    # Progress and regress are added: 1 - 2.
    assert [axis.points(1, -1) for axis in domain.axes] == [-1.0, -1.0, -1.0]
    assert domain.need_order == ("A", "C", "P")


@every_domain
def test_no_level_is_worded_like_another(path: str) -> None:
    texts = [text for axis in FOUND[path].axes for text in (*axis.progress_levels, *axis.regress_levels)]
    repeated = {text for text in texts if texts.count(text) > 1}
    assert not repeated


@every_domain
def test_judge_prompt_asks_for_all_fields_and_states_every_level(path: str) -> None:
    domain = FOUND[path]
    fields = judge_fields(domain.axes)
    assert list(fields) == judgement_schema()["required"]
    assert len(set(fields)) == 18
    for text in (
        *fields,
        *(t for axis in domain.axes for t in (*axis.progress_levels, *axis.regress_levels)),
    ):
        assert text in domain.judge_prompt


@every_domain
@pytest.mark.parametrize("key", ["need_order", "dominant_axis", "initial_state", "state", "energy"])
def test_only_the_director_is_told_of_numbers(path: str, key: str) -> None:
    domain = FOUND[path]
    # As a whole word: "understates" is not the key.
    assert not re.search(rf"\b{key}\b", domain.actor_prompt + domain.judge_prompt)
    is_shown = key in ("initial_state", "state", "energy")
    assert (re.search(rf"\b{key}\b", domain.director_prompt) is not None) is is_shown


@every_domain
def test_only_the_director_hears_of_untold_stages_and_of_the_moves(path: str) -> None:
    domain = FOUND[path]
    assert all(f"- {move}:" in domain.director_prompt for move in Move)
    assert "untold" in domain.director_prompt
    assert "untold" not in domain.actor_prompt + domain.judge_prompt
    assert "told:" not in domain.judge_prompt


@every_domain
def test_prompts_have_no_open_placeholders(path: str) -> None:
    domain = FOUND[path]
    for prompt in (domain.policy_prompt, domain.actor_prompt, domain.judge_prompt):
        assert "{" not in prompt and "}" not in prompt
    assert '{"move": "<one of the seven>", "guidance": "<text>"}' in domain.director_prompt
    assert len(domain.policy_prompt.split()) <= 15


@every_domain
def test_needs_met_one_after_the_other_fit_the_turns(path: str) -> None:
    domain = FOUND[path]
    # An axis gains at most 3 points a turn: deficits of 8, 5 and 5 take 3 + 2 + 2 of the turns.
    needed = max(
        (sum(ceil(-points / 3) for points in scenario.initial_state) for scenario in domain.scenarios),
        default=0,  # A domain without scenarios has no needs to check.
    )
    assert needed <= domain.rules.max_turns
    assert domain.rules.check_from < domain.rules.max_turns
