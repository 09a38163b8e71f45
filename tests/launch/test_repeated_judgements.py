"""Repeated judgements of a step: the turns nearest to a tie, and their costs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from mica_ray.chat.ledger import Ledger, Tally
from mica_ray.config import ConfigError, RunConfig
from mica_ray.config.overrides import override
from mica_ray.dialogue.repeat_judging import RepeatConfig
from mica_ray.dialogue.role_messages import SpokenTurn
from mica_ray.launch.assembly import judge_ties_again
from mica_ray.launch.preflight import check_run
from mica_ray.types import Judgement, Scenario, State
from tests.dialogue.test_repeat_judging import dialogue, judged


@dataclass
class CountedJudge:
    """A judge that finds no change, counts its calls, and remembers what it was asked."""

    ledger: Ledger
    asked: list[str] = field(default_factory=list)

    async def score(
        self, scenario: Scenario, dialogue: Sequence[SpokenTurn], *, state: State, seed: int
    ) -> Judgement:
        self.asked.append(dialogue[-1]["user"])
        self.ledger.add("judge", Tally(calls=1))
        return judged(0.0)


async def test_turns_nearest_to_a_tie_are_judged_again_and_paid_for(tmp_path: Path) -> None:
    assert RunConfig().repeat_judging is None
    config = override(RunConfig(), ['repeat_judging={"fraction": 0.5, "repeats": 2}', "credit.gamma=0"])
    repeat = config.repeat_judging
    assert repeat is not None and repeat == RepeatConfig(fraction=0.5, repeats=2)
    ledger = Ledger(tmp_path / "costs.jsonl")
    ledger.phase = "train"
    judge = CountedJudge(ledger)
    # At turn 0 the two dialogues are 2 points an axis apart, at turn 1 they are equal.
    played = [dialogue(judged(2.0), judged(1.0)), dialogue(judged(0.0), judged(1.0), sample=1)]
    outcome = await judge_ties_again(config, repeat, played, judge=judge, ledger=ledger, step=3)
    assert judge.asked == ["user 1"] * 4
    assert outcome.num_asked == 4
    # (1 + 0 + 0) / 3 at turn 1; turn 0 is unchanged.
    deltas = [turn.judgement.delta for turn in outcome.trajectories[0].turns]
    assert deltas == [(2.0,) * 3, (1 / 3,) * 3]
    rows = [json.loads(line) for line in (tmp_path / "costs.jsonl").read_text().splitlines()]
    assert [(row["step"], row["sample"], row["roles"]["judge"]["calls"]) for row in rows] == [
        (3, 0, 2),
        (3, 1, 2),
    ]
    assert ledger.totals()["judge"].calls == 4


def test_values_of_a_potential_cannot_be_averaged(tmp_path: Path) -> None:
    path = tmp_path / "seekers.jsonl"
    fields = {
        "id": "m1", "category": "work", "dominant_axis": "A", "persona": "Ann.", "opening": "Hi.",
        "initial_state": [0, -60, 0], "stages": ["One."], "split": "train",
    }  # fmt: skip
    path.write_text(
        "".join(json.dumps(fields | {"id": split, "split": split}) + "\n" for split in ("train", "test"))
    )
    sage = ["domain=mica_ray.domains.sage:SAGE", f"scenarios_file={path}", "repeat_judging={}"]
    with pytest.raises(ConfigError, match="domain sage is scored by a potential"):
        check_run(override(RunConfig(), sage), inline=True, environment={}, gpus_here=0)
