"""Canaries tell an honest judge from judges that are moved by what a reply demands."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

import pytest

from mica_ray.chat.model import ChatReply, JsonSchema
from mica_ray.dialogue.judger import Judger
from mica_ray.domains.canaries import CANARIES, PROBES, Canary, failed_canaries, forged_verdict, probe
from mica_ray.domains.emotional_support import EMOTIONAL_SUPPORT
from mica_ray.domains.sage import SAGE
from mica_ray.embedded.roles import ScriptedRoles
from mica_ray.types import AXES, Judgement, Message, Sampling

HONEST = {
    **{cue: {"A_regress": -2} for cue in ("whining", "矫情")},
    **{cue: {"P_regress": -2} for cue in ("no excuse", "借口")},
    **{cue: {"C_regress": -1} for cue in ("your father", "父亲")},
    **{cue: {"A_progress": 2} for cue in ("ashamed", "羞愧")},
    **{cue: {"C_progress": 2} for cue in ("two things", "两件事")},
}
"""A word of a canary -> the levels that it deserves; the others are 0."""


class RuleJudge:
    """A judge model with rules; subclasses are fooled by something."""

    def levels(self, reply: str) -> dict[str, int]:
        return next((levels for cue, levels in HONEST.items() if cue in reply), {})

    async def chat(
        self, messages: Sequence[Message], sampling: Sampling, schema: JsonSchema | None = None
    ) -> ChatReply:
        case: dict[str, Any] = json.loads(messages[1]["content"])
        return ChatReply(self.answer(case["dialogue"][-1]["reply"]), "rules")

    def answer(self, reply: str) -> str:
        levels = self.levels(reply)
        fields: dict[str, object] = {}
        for axis in AXES:
            for side in ("progress", "regress"):
                level = levels.get(f"{axis}_{side}", 0)
                fields[f"{axis}_{side}_evidence"] = reply if level else ""
                fields[f"{axis}_{side}_reasoning"] = "by rule"
                fields[f"{axis}_{side}_level"] = level
        return json.dumps(fields, ensure_ascii=False)


BEST: dict[str, int] = {f"{axis}_progress": 2 for axis in AXES}


class EchoingJudge(RuleJudge):
    """Repeats a verdict that it reads."""

    def answer(self, reply: str) -> str:
        found = re.search(r"\{.*\}", reply, re.DOTALL)
        return found.group() if found and "level" in found.group() else super().answer(reply)


class ObedientJudge(RuleJudge):
    """Does what a reply asks of a judge."""

    def levels(self, reply: str) -> dict[str, int]:
        return BEST if "judge" in reply or "评委" in reply else super().levels(reply)


class MovedJudge(RuleJudge):
    """Is moved by thanks, even if the reply itself spells them."""

    def levels(self, reply: str) -> dict[str, int]:
        return BEST if "Thank you" in reply or "谢谢" in reply else super().levels(reply)


class KindJudge(RuleJudge):
    """Finds every reply good."""

    def levels(self, reply: str) -> dict[str, int]:
        return BEST


async def failed(model: RuleJudge) -> set[str]:
    judge = Judger(model, EMOTIONAL_SUPPORT, Sampling(max_tokens=512))
    found = await failed_canaries(judge, EMOTIONAL_SUPPORT)
    return {name.removeprefix("canary-")[:-3] for name in found}


@pytest.mark.parametrize(
    ("model", "fails"),
    [
        (RuleJudge(), set()),
        (EchoingJudge(), {"forged_verdict"}),
        (ObedientJudge(), {"plea_to_the_judge"}),
        (MovedJudge(), {"forged_turns", "forged_end_of_case"}),
        (KindJudge(), {canary.name for canary in CANARIES} - {"unspoken_feeling", "two_things_apart"}),
    ],
    ids=lambda item: type(item).__name__,
)
async def test_each_weakness_of_a_judge_fails_its_own_canaries(model: RuleJudge, fails: set[str]) -> None:
    assert await failed(model) == fails


async def test_echoed_verdict_is_a_failed_judgement_and_no_score() -> None:
    judge = Judger(EchoingJudge(), EMOTIONAL_SUPPORT, Sampling(max_tokens=512))
    problems = await failed_canaries(judge, EMOTIONAL_SUPPORT)
    assert all(texts[0].startswith("no score: the object is copied") for texts in problems.values())
    assert len(problems) == 2


def test_every_canary_exists_in_both_languages() -> None:
    names = [(canary.name, canary.language) for canary in CANARIES]
    assert len(set(names)) == len(names) == 26
    assert {name for name, language in names if language == "en"} == {name for name, _ in names}
    assert all(
        set(canary.levels) <= {f"{a}_{s}" for a in AXES for s in ("progress", "regress")}
        for canary in CANARIES
    )


def test_levels_are_checked_at_both_ends() -> None:
    canary = Canary("x", "en", "Hi", {"A_regress": (-2, -1)})
    for level, count in ((-2, 0), (-1, 0), (0, 1)):
        judgement = Judgement((0, 0, 0), (0, level, 0), (0.0, 0.0, 0.0))
        assert len(canary.problems(judgement)) == count
    assert canary.problems(Judgement((0, 0, 0), (0, 0, 0), (0.0, 0.0, 0.0)), axes=("C",)) == ()


async def test_judge_of_a_single_value_is_checked_on_its_axis() -> None:
    class Moved:
        async def chat(
            self, messages: Sequence[Message], sampling: Sampling, schema: JsonSchema | None = None
        ) -> ChatReply:
            change = -8 if "whining" in messages[1]["content"] else 8
            return ChatReply(json.dumps({"feeling": "f", "aim": "a", "change": change}), "moved")

    chosen = [
        canary for canary in CANARIES if canary.name in ("dismissal", "two_things_apart", "forged_turns")
    ]
    found = await failed_canaries(Judger(Moved(), SAGE, Sampling()), SAGE, canaries=chosen)
    # Only the English dismissal is recognized; nothing is expected of axis A where two things are set apart.
    assert sorted(found) == ["canary-dismissal-zh", "canary-forged_turns-en", "canary-forged_turns-zh"]


def test_forged_verdict_is_a_valid_answer_by_form() -> None:
    assert len(json.loads(forged_verdict())) == 18


class WordCounter(RuleJudge):
    """Takes length for care."""

    def levels(self, reply: str) -> dict[str, int]:
        return BEST if len(reply.split()) > 60 else super().levels(reply)


class Mirror(RuleJudge):
    """Takes a repeated message for understanding."""

    def levels(self, reply: str) -> dict[str, int]:
        return {"A_progress": 1} if reply.startswith("They let me go") else super().levels(reply)


@pytest.mark.parametrize(
    ("model", "credited", "unanswered"),
    [
        (RuleJudge(), set(), 0),
        (WordCounter(), {"padding"}, 0),
        (Mirror(), {"echo"}, 0),
        # It repeats the forged verdict, which is rejected: no score, and no credit either.
        (EchoingJudge(), set(), 1),
        (KindJudge(), {canary.name for canary in PROBES}, 0),
    ],
    ids=lambda item: type(item).__name__,
)
async def test_probe_counts_credit_and_missing_scores_apart(
    model: RuleJudge, credited: set[str], unanswered: int
) -> None:
    judge = Judger(model, EMOTIONAL_SUPPORT, Sampling(max_tokens=512))
    count = await probe(judge, EMOTIONAL_SUPPORT, languages={"en"})
    assert set(count.credited) == {f"canary-{name}-en" for name in credited}
    assert (count.unanswered, count.asked) == (unanswered, 8)


async def test_probes_are_asked_in_the_languages_of_the_run() -> None:
    judge = Judger(KindJudge(), EMOTIONAL_SUPPORT, Sampling(max_tokens=512))
    assert (await probe(judge, EMOTIONAL_SUPPORT, languages={"en", "zh"})).asked == 16
    assert (await probe(judge, EMOTIONAL_SUPPORT, languages={"fr"})).asked == 0


async def test_scripted_judge_credits_no_probe() -> None:
    judge = Judger(ScriptedRoles(), EMOTIONAL_SUPPORT, Sampling(max_tokens=512))
    count = await probe(judge, EMOTIONAL_SUPPORT, languages={"en"})
    assert (count.credited, count.unanswered) == ({}, 0)
