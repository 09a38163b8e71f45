"""The Actor returns one clean message, or fails with a reason."""

from __future__ import annotations

from dataclasses import replace

import pytest

from mica_ray.chat.model import ChatError, ChatReply
from mica_ray.dialogue.actor import Actor, ActorMessage
from mica_ray.dialogue.role_messages import SpokenTurn
from mica_ray.types import Sampling, Status
from tests.dialogue.tiny_domain import DOMAIN, SCENARIO, Forever, QueuedChat

DIALOGUE: list[SpokenTurn] = [{"user": SCENARIO.opening, "reply": "I hear you."}]


async def message(model: QueuedChat, deadline_seconds: float = 30.0) -> ActorMessage:
    actor = Actor(model, DOMAIN, Sampling(temperature=0.5), deadline_seconds)
    return await actor.speak(
        SCENARIO,
        DIALOGUE,
        state=SCENARIO.initial_state,
        revealed=("a",),
        guidance="softly",
        fragment="b",
        seed=9,
    )


async def spoken(model: QueuedChat, deadline_seconds: float = 30.0) -> str:
    return (await message(model, deadline_seconds)).text


async def test_message_is_free_text_under_the_given_seed() -> None:
    model = QueuedChat("  Thank you.\n")
    assert await spoken(model) == "Thank you."
    assert model.asked[0].sampling == Sampling(temperature=0.5, seed=9)
    assert model.asked[0].schema is None
    assert (model.asked[0].case["guidance"], model.asked[0].case["fragment"]) == ("softly", "b")


async def test_thoughts_before_the_message_are_not_said() -> None:
    assert await spoken(QueuedChat("<think>She is sad.</think>\n\nThank you.")) == "Thank you."


@pytest.mark.parametrize("silence", ["", " \n", "<think>hm</think>", "<think>hm", '""', "User:"])
async def test_silence_in_all_four_drafts_is_a_content_error(silence: str) -> None:
    model = QueuedChat(silence)
    with pytest.raises(ChatError, match="wrote no usable message in 4 drafts: it says nothing") as caught:
        await spoken(model)
    assert caught.value.kind == "content"
    assert len(model.asked) == 4


async def test_new_draft_gets_the_fault_of_the_last_one_without_its_text() -> None:
    model = QueuedChat(SCENARIO.opening, '{"a": 1}', "And the nights are worst.")
    assert await spoken(model) == "And the nights are worst."
    first, second, third = model.asked
    assert "it repeats what the person said before" in second.messages[0]["content"]
    assert "it is JSON" in third.messages[0]["content"]
    assert "repeats" not in third.messages[0]["content"]
    assert first.messages[1:] == second.messages[1:]
    # A draft under the seed of the last would be the last one again.
    assert len({asked.sampling.seed for asked in model.asked}) == 3


async def test_third_draft_has_no_words_of_the_person_to_copy_and_drafts_grow_hotter() -> None:
    model = QueuedChat(SCENARIO.opening, SCENARIO.opening, SCENARIO.opening, "And the nights are worst.")
    assert await spoken(model) == "And the nights are worst."
    shown = [asked.case["dialogue"] for asked in model.asked]
    assert shown == [DIALOGUE, DIALOGUE, *[[{"user": "", "reply": "I hear you."}]] * 2]
    assert [(asked.case["told"], asked.case["fragment"]) for asked in model.asked] == [(["a"], "b")] * 4
    assert [asked.sampling.temperature for asked in model.asked] == pytest.approx([0.5, 0.7, 0.9, 1.1])


async def test_chinese_actor_gets_the_fault_in_chinese() -> None:
    model = QueuedChat("", "夜里最难熬。")
    scenario = replace(SCENARIO, language="zh")
    found = await Actor(model, DOMAIN, Sampling()).open(scenario, seed=9)
    assert found == ActorMessage("夜里最难熬。", Status.REPAIRED)
    assert "里面什么都没说" in model.asked[1].messages[0]["content"]


async def test_copied_instructions_are_rejected() -> None:
    model = QueuedChat("Softly.", "And the nights are worst.")
    assert await spoken(model) == "And the nights are worst."
    assert "it repeats the instructions" in model.asked[1].messages[0]["content"]


async def test_verbatim_reply_is_accepted_although_it_repeats_a_message() -> None:
    model = QueuedChat(ChatReply(f"{SCENARIO.opening} ", "m", is_verbatim=True))
    assert await spoken(model) == SCENARIO.opening
    assert len(model.asked) == 1


async def test_name_of_the_model_does_not_excuse_a_repetition() -> None:
    model = QueuedChat(
        ChatReply(SCENARIO.opening, "scripted"), ChatReply("And the nights are worst.", "scripted")
    )
    assert await message(model) == ActorMessage("And the nights are worst.", Status.REPAIRED)


async def test_message_says_how_it_came_about() -> None:
    assert (await message(QueuedChat("Thank you."))).status is Status.OK
    assert (await message(QueuedChat(ChatReply("Thank you.", "m", attempts=2)))).status is Status.RETRIED
    assert (await message(QueuedChat("", "Thank you."))).status is Status.REPAIRED


async def test_late_actor_is_a_timeout() -> None:
    with pytest.raises(ChatError, match=r"within 0.1 s") as caught:
        await spoken(QueuedChat(Forever()), deadline_seconds=0.1)
    assert caught.value.kind == "timeout"
