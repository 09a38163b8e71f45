"""The scripted roles answer in the forms the real ones validate, and their scores are the world's."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import cast

import numpy as np
import pytest

from mica_ray.chat.model import ChatError
from mica_ray.dialogue.director import Move, Plot, direction_schema, read_direction
from mica_ray.dialogue.judger import judgement_schema, read_judgement
from mica_ray.dialogue.role_messages import SpokenTurn, actor_messages, director_messages, judge_messages
from mica_ray.domains.emotional_support import EMOTIONAL_SUPPORT
from mica_ray.embedded.roles import ScriptedRoles, topic_of
from mica_ray.embedded.world import replay, start
from mica_ray.types import Message, Sampling, Scenario, Status
from tests.embedded.embedded_talk import NEED_ORDER, TESTS, Rule, attentive, in_turn, say, talk, talks

SCENARIO = TESTS[0]
REPLY = say("acknowledge", 0, SCENARIO)
DIALOGUE: list[SpokenTurn] = [{"user": SCENARIO.opening, "reply": REPLY}]
MIXED = in_turn("acknowledge", "step", "explore", "acknowledge", "reframe", "affirm", "step")


def judged(dialogue: list[SpokenTurn]) -> list[Message]:
    return list(judge_messages(EMOTIONAL_SUPPORT, SCENARIO, state=SCENARIO.initial_state, dialogue=dialogue))


def spoken(*, fragment: str | None = None, dialogue: list[SpokenTurn] = DIALOGUE) -> list[Message]:
    return list(
        actor_messages(
            EMOTIONAL_SUPPORT,
            SCENARIO,
            state=SCENARIO.initial_state,
            dialogue=dialogue,
            revealed=(),
            guidance=None,
            fragment=fragment,
        )
    )


def directed(plot: Plot, dialogue: list[SpokenTurn] = DIALOGUE) -> list[Message]:
    return list(
        director_messages(
            EMOTIONAL_SUPPORT,
            SCENARIO,
            state=SCENARIO.initial_state,
            dialogue=dialogue,
            energy=[0.0] * len(dialogue),
            revealed=plot.revealed,
            upcoming=plot.upcoming,
        )
    )


async def answer(
    messages: list[Message], schema: Mapping[str, object] | None = None, *, seed: int = 0
) -> str:
    return (await ScriptedRoles().chat(messages, Sampling(seed=seed), schema)).text


async def test_judge_answers_the_eighteen_fields_the_judger_validates() -> None:
    schema = judgement_schema()
    text = await answer(judged(DIALOGUE), schema)
    assert set(json.loads(text)) == set(cast(list[str], schema["required"]))
    judgement = read_judgement(text, EMOTIONAL_SUPPORT)
    # A specific acknowledgement at the start: affective progress 2, worth 3 points.
    assert (judgement.progress, judgement.regress, judgement.delta) == ((0, 2, 0), (0, 0, 0), (0.0, 3.0, 0.0))
    assert judgement.evidence["A_progress_evidence"].removeprefix("acknowledge: ") in REPLY.lower()


async def test_judge_quotes_only_what_was_said() -> None:
    judgements = [turn.judgement for trajectory in await talks(MIXED) for turn in trajectory.turns]
    assert any(judgement.evidence["A_progress_evidence"] for judgement in judgements)
    assert sum(judgement.unfound_evidence for judgement in judgements) == 0


async def test_director_answers_a_direction_and_no_stage_beyond_the_last() -> None:
    for num_revealed in range(len(SCENARIO.stages) + 1):
        plot = Plot(SCENARIO.stages, told=tuple(range(1, num_revealed + 1)))
        direction = read_direction(await answer(directed(plot), direction_schema(plot)), plot)
        # Affect is in focus, which is the subject of stage 1: it is revealed once, and the others wait.
        assert direction.move is (Move.REVEAL_STAGE if num_revealed == 0 else Move.CONTINUE)
        assert direction.stage == (1 if num_revealed == 0 else None)
        assert direction.guidance


def unkind(scenario: Scenario, heard: Sequence[str], said: Sequence[str]) -> str:
    return ("Others have it worse, you know.", "It is not a big deal.", "You should get over it.")[
        len(said) % 3
    ]


@pytest.mark.parametrize("rule", [attentive, MIXED, unkind])
async def test_judge_gives_the_worlds_levels_and_points(rule: Rule) -> None:
    talked = await talk(rule, SCENARIO)
    felt = replay(
        start(SCENARIO.initial_state, NEED_ORDER), [(turn.user, turn.reply) for turn in talked.turns]
    )
    assert [turn.judgement.status for turn in talked.turns] == [Status.OK] * len(felt)
    assert [turn.judgement.progress for turn in talked.turns] == [one.progress for one in felt]
    assert [turn.judgement.regress for turn in talked.turns] == [one.regress for one in felt]
    np.testing.assert_allclose([turn.state_after for turn in talked.turns], [one.after.state for one in felt])


async def test_talk_is_a_pure_function_of_its_seed() -> None:
    assert await talk(MIXED, SCENARIO, seed=3) == await talk(MIXED, SCENARIO, seed=3)
    first, second = [await talk(MIXED, SCENARIO, seed=seed) for seed in (3, 4)]
    assert [turn.user for turn in first.turns] != [turn.user for turn in second.turns]


async def test_every_answer_is_verbatim_so_that_the_actor_does_not_ask_again() -> None:
    for messages in (judged(DIALOGUE), directed(Plot(SCENARIO.stages)), spoken()):
        assert (await ScriptedRoles().chat(messages, Sampling(seed=0))).is_verbatim


async def test_actor_tells_the_fragment_as_it_stands() -> None:
    assert (await answer(spoken(fragment=SCENARIO.stages[0]))).endswith(SCENARIO.stages[0])


async def test_actor_turns_to_what_weighs_now_in_its_own_words() -> None:
    message = await answer(spoken())
    assert SCENARIO.topic in message.lower()
    assert message != await answer(spoken(), seed=1)


async def test_actor_does_not_say_a_line_twice() -> None:
    # Silence keeps the focus where it is; five lines are there for it, and each is used before one returns.
    dialogue: list[SpokenTurn] = [{"user": SCENARIO.opening, "reply": ""}]
    said: list[str] = []
    for seed in range(5):
        message = await answer(spoken(dialogue=dialogue), seed=seed)
        said.append(message.partition(". ")[2])
        dialogue.append({"user": message, "reply": ""})
    assert len(set(said)) == 5


async def test_story_is_told_in_order_and_once() -> None:
    talked = await talk(attentive, SCENARIO)
    users = [turn.user for turn in talked.turns]
    told = [stage for user in users for stage in SCENARIO.stages if stage in user]
    assert told == list(SCENARIO.stages[: len(told)])
    assert len(told) >= 2


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ('{"role": "narrator"}', "cannot play 'narrator'"),
        ("Hello, how are you?", "case files, not free text"),
        ('{"role": "judge", "dialogue": []}', r"need the initial needs. Set roles.shows_needs=true\."),
        ("[1, 2]", "not a JSON object"),
    ],
)
async def test_what_is_no_case_file_is_refused(content: str, problem: str) -> None:
    with pytest.raises(ChatError, match=problem) as caught:
        await answer([{"role": "user", "content": content}])
    assert caught.value.kind == "refused"


async def test_no_message_at_all_is_refused() -> None:
    with pytest.raises(ChatError, match="case files"):
        await answer([])


def test_topic_is_the_commonest_content_word_and_the_first_of_equals() -> None:
    assert topic_of(["The exam and the wedding.", "My exam again."]) == "the exam"
    assert topic_of(["The wedding and the exam."]) == "the wedding"
    assert topic_of(["I do not know."]) == "the whole thing"
