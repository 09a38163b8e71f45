"""Chinese scenarios get Chinese instructions; English ones read what they always read."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import pytest

from mica_ray.dialogue.director import Move
from mica_ray.dialogue.domain import Domain
from mica_ray.dialogue.judger import judgement_schema
from mica_ray.dialogue.role_messages import SpokenTurn, actor_messages, director_messages, judge_messages
from mica_ray.domains.emotional_support import EMOTIONAL_SUPPORT
from mica_ray.domains.empa import EMPA
from mica_ray.domains.role_prompts_zh import SUPPORT_AXES_ZH, SUPPORT_PROMPTS_ZH
from mica_ray.types import Message, Scenario

ENGLISH = EMOTIONAL_SUPPORT.scenarios[0]
CHINESE = replace(ENGLISH, language="zh", persona="林晚，24 岁。", opening="今天又是我一个人。")
DIALOGUE: list[SpokenTurn] = [{"user": CHINESE.opening, "reply": "我在听。"}]


def all_messages(domain: Domain, scenario: Scenario) -> list[tuple[Message, Message]]:
    state = scenario.initial_state
    return [
        actor_messages(
            domain, scenario, state=state, dialogue=DIALOGUE, revealed=(), guidance=None, fragment=None
        ),
        director_messages(
            domain, scenario, state=state, dialogue=DIALOGUE, energy=[1.0], revealed=(), upcoming={1: "a"}
        ),
        judge_messages(domain, scenario, state=state, dialogue=DIALOGUE),
    ]


def test_language_of_the_scenario_chooses_the_prompts_and_the_names_of_the_axes() -> None:
    chosen = [
        SUPPORT_PROMPTS_ZH.actor_prompt,
        SUPPORT_PROMPTS_ZH.director_prompt,
        SUPPORT_PROMPTS_ZH.judge_prompt,
    ]
    for (system, user), prompt in zip(all_messages(EMOTIONAL_SUPPORT, CHINESE), chosen, strict=True):
        assert system["content"].startswith(prompt)
        case = json.loads(user["content"])
        assert case["role"] == "actor" or case["axes"]["A"] == SUPPORT_AXES_ZH[1].name


def test_own_language_and_unknown_ones_get_the_domains_own_prompts() -> None:
    plain = replace(EMOTIONAL_SUPPORT, translations=())
    assert all_messages(EMOTIONAL_SUPPORT, ENGLISH) == all_messages(plain, ENGLISH)
    french = replace(ENGLISH, language="fr")
    assert all_messages(EMOTIONAL_SUPPORT, french) == all_messages(plain, ENGLISH)


def test_empa_speaks_chinese_where_its_cards_do() -> None:
    assert EMPA.prompts("zh") == SUPPORT_PROMPTS_ZH


def test_two_translations_into_one_language_are_refused() -> None:
    with pytest.raises(ValueError, match="different languages, got zh, zh"):
        replace(EMOTIONAL_SUPPORT, translations=(SUPPORT_PROMPTS_ZH, SUPPORT_PROMPTS_ZH))


def test_judge_prompt_names_the_eighteen_fields_and_every_level_of_every_axis() -> None:
    prompt = SUPPORT_PROMPTS_ZH.judge_prompt
    fields = judgement_schema()["required"]
    assert isinstance(fields, list)
    for field in fields:
        assert f"- {field}\n" in prompt + "\n"
    for axis in SUPPORT_AXES_ZH:
        for level, (up, down) in enumerate(zip(axis.progress_levels, axis.regress_levels, strict=True)):
            assert f"    {level}: {up}" in prompt
            assert f"    {-level}: {down}" in prompt
    assert "表演式共情在三个轴上都是负分" in prompt


def test_points_do_not_depend_on_the_language() -> None:
    for zh, own in zip(SUPPORT_AXES_ZH, EMOTIONAL_SUPPORT.axes, strict=True):
        assert (zh.key, zh.progress_points, zh.regress_points) == (
            own.key,
            own.progress_points,
            own.regress_points,
        )


def test_only_the_director_hears_of_untold_stages_and_of_the_moves() -> None:
    assert all(f"- {move}：" in SUPPORT_PROMPTS_ZH.director_prompt for move in Move)
    assert "untold" in SUPPORT_PROMPTS_ZH.director_prompt
    assert "untold" not in SUPPORT_PROMPTS_ZH.actor_prompt + SUPPORT_PROMPTS_ZH.judge_prompt


def test_only_the_director_is_told_of_numbers() -> None:
    for key in ("need_order", "dominant_axis", "initial_state", "state", "energy"):
        assert key not in SUPPORT_PROMPTS_ZH.actor_prompt + SUPPORT_PROMPTS_ZH.judge_prompt
    assert "priorities" in SUPPORT_PROMPTS_ZH.judge_prompt


def test_prompts_are_chinese_but_for_keys_and_have_no_open_placeholders() -> None:
    prompts = SUPPORT_PROMPTS_ZH
    for prompt in (prompts.policy_prompt, prompts.actor_prompt, prompts.judge_prompt):
        assert "{" not in prompt
    for prompt in (
        prompts.policy_prompt,
        prompts.actor_prompt,
        prompts.director_prompt,
        prompts.judge_prompt,
    ):
        # Two English words in a row would be a sentence left untranslated.
        assert not re.search(r"[A-Za-z]{2,} [A-Za-z]{2,}", prompt.replace("JSON", ""))
