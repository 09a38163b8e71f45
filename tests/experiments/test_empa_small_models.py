"""The experiment on small models counts every answer of every role."""

from __future__ import annotations

import sys
from argparse import Namespace
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from rich.console import Console

from mica_ray.chat.model import ChatError, ChatModel, ChatReply, JsonSchema
from mica_ray.domains.emotional_support import EMOTIONAL_SUPPORT
from mica_ray.embedded.roles import ScriptedRoles
from mica_ray.reporting.dialogues.files import read_dialogue_files
from mica_ray.types import Message, Sampling
from tests.dialogue.tiny_domain import QueuedChat
from tests.domains.empa.card_folder import name, write_cards

sys.path.insert(0, str(Path(__file__).parents[2] / "experiments"))  # as when the script is run
experiment: Any = import_module("empa_small_models")

SCENARIOS = EMOTIONAL_SUPPORT.split("train")[:2]


class EveryOther:
    """Answers like the scripted roles, but with nonsense at every second first attempt."""

    def __init__(self) -> None:
        self._scripted, self._asked = ScriptedRoles(), 0

    async def chat(
        self, messages: Sequence[Message], sampling: Sampling, schema: JsonSchema | None = None
    ) -> ChatReply:
        if len(messages) == 2:
            self._asked += 1
            if self._asked % 2 == 0:
                return ChatReply("nonsense", "every other", prompt_tokens=5, completion_tokens=1)
        return await self._scripted.chat(messages[:2], sampling, schema)


async def played(keep: Callable[[Any], None] = lambda _: None, **models: ChatModel) -> Any:
    roles: dict[str, ChatModel] = {role: ScriptedRoles() for role in experiment.ROLES}
    roles["policy"] = QueuedChat("I hear how hard this is for you.")
    return await experiment.play(
        roles | models,
        EMOTIONAL_SUPPORT,
        SCENARIOS,
        num_turns=3,
        deadline_seconds=30,
        console=Console(quiet=True),
        keep=keep,
    )


async def test_every_answer_of_every_role_is_counted() -> None:
    found = await played()
    # Two dialogues of three turns; after the last turn neither Director nor Actor is asked.
    asked = {role: (count.asked, count.first, count.failed) for role, count in found.counts.items()}
    assert asked == {"actor": (4, 4, 0), "policy": (6, 6, 0), "judge": (6, 6, 0), "director": (4, 4, 0)}


async def test_repaired_judgements_are_told_from_usable_ones() -> None:
    count = (await played(judge=EveryOther())).counts["judge"]
    assert (count.asked, count.first, count.repaired, count.failed) == (6, 3, 3, 0)
    assert (count.prompt_tokens, count.completion_tokens) == (15, 3)


async def test_unusable_judgements_are_failures_with_their_reason() -> None:
    found = await played(judge=QueuedChat("no"))
    count = found.counts["judge"]
    assert (count.asked, count.first, count.repaired, count.failed) == (6, 0, 0, 6)
    assert list(count.errors) == ["invalid: the answer holds no JSON object (after one repair attempt)"]
    assert all(turn.judgement.delta is None for dialogue in found.dialogues for turn in dialogue.turns)


async def test_role_that_is_down_is_counted_where_it_failed() -> None:
    down = QueuedChat(ChatError("down", kind="infrastructure", endpoint="x"))
    found = await played(director=down)
    count = found.counts["director"]
    assert (count.asked, count.first, count.repaired, count.failed) == (4, 0, 0, 4)


async def test_what_has_ended_is_kept_while_the_rest_goes_on() -> None:
    kept: list[Any] = []
    found = await played(keep=kept.append, judge=QueuedChat("no"))
    assert [len(each.dialogues) for each in kept] == [1, 2]
    # Failures of the ended dialogues alone, each counted once however often the counts are looked at.
    assert [each.counts["judge"].failed for each in kept] == [3, 6]
    assert found.dialogues == kept[-1].dialogues


async def test_counts_are_printed_and_dialogues_can_be_drawn(tmp_path: Path) -> None:
    found = await played()
    table = experiment.counts_table("engine", found)
    assert table.row_count == 4 and "2 dialogues, 6 turns" in str(table.title)
    assert experiment.played_record(found)["judgements"] == {"ok": 6}
    experiment.write_dialogues(tmp_path / "engine.jsonl", found.dialogues)
    drawn = read_dialogue_files([tmp_path / "engine.jsonl"]).dialogues
    assert [len(dialogue.states) for dialogue in drawn] == [4, 4]


def test_folder_of_cards_brings_the_scenarios_and_the_rules_of_the_benchmark(tmp_path: Path) -> None:
    cards = write_cards(tmp_path, (2, 3, 4), official=(4,))
    domain, scenarios = experiment.read_world(Namespace(cards=cards, num_cards=8))
    assert (domain.name, domain.rules.max_turns) == ("empa", 45)
    assert [scenario.id for scenario in scenarios] == [name(2), name(3)]  # The fourth is a test case.
