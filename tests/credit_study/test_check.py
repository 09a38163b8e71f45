"""Credit against measured value, in a world where every other reply earns one point per turn."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pytest

from mica_ray.credit_study.agreement import CreditCheck, bootstrap_correlation
from mica_ray.credit_study.check import CheckConfig, check_credit, choose_places
from mica_ray.dialogue.play import DialogueStart
from mica_ray.recordings.recorded_dialogue import RecordedDialogue, RecordingError
from mica_ray.recordings.recorded_turns import RecordedTurns
from mica_ray.rewards import Rewards
from mica_ray.types import Judgement, Scenario, State, Stop, Trajectory, Turn, TurnRewards
from tests.recordings.made_dialogues import make_dialogue

START: State = (-10.0, 0.0, 0.0)
SCENARIO = Scenario("s1", "test", "none", "C", "Someone.", "Hi.", START, ("One.",), "train")
HELPED = Judgement((1, 0, 0), (0, 0, 0), (1.0, 0.0, 0.0))
FIRST_MOVES = (-1.0, 1.0, 1.0, 3.0)
"""Move of the first reply of each recorded dialogue; the second one always helps by one point."""


def recorded_turns(steps: Sequence[int] = (0, 0, 0, 0)) -> RecordedTurns:
    dialogues: list[RecordedDialogue] = []
    for first, step in zip(FIRST_MOVES, steps, strict=True):
        dialogues.append(
            make_dialogue(
                (START, (-10.0 + first, 0.0, 0.0), (-9.0 + first, 0.0, 0.0)),
                scenario="s1",
                rewards=np.array([first, 1.0]),
                talk=(("Hi.", "Reply."), ("One.", "Another.")),
                step=step,
                group=0,
            )
        )
    rewards = np.array([dialogue.rewards for dialogue in dialogues])
    turns = TurnRewards(rewards, np.ones((4, 2), bool), np.array(steps, dtype=np.int64))
    codes = np.array(steps, dtype=np.int64)
    return RecordedTurns(tuple(dialogues), turns, codes, ("recorded",), 0, 0)


@dataclass
class Helpers:
    """Continues with replies that help by one point each, up to turn 2; fails for numbers in `fails`."""

    fails: frozenset[int] = frozenset()
    starts: list[DialogueStart] = field(default_factory=list)

    async def __call__(self, starts: Sequence[DialogueStart]) -> Sequence[Trajectory]:
        self.starts.extend(starts)
        return [self.play(number, start) for number, start in enumerate(starts)]

    def play(self, number: int, start: DialogueStart) -> Trajectory:
        begun = start.begun
        assert begun is not None
        c = begun.states[-1][0]
        turns = tuple(
            Turn(index, "", "", HELPED, (c + 1 + index - begun.num_turns, 0.0, 0.0))
            for index in range(begun.num_turns, 2)
        )
        scenario = replace(start.scenario, initial_state=begun.states[-1])
        is_lost = number in self.fails
        stop = Stop.FAILED if is_lost else Stop.LIMIT
        return Trajectory(scenario, 0, number, turns, stop, error="the user fell silent" if is_lost else None)


async def check(
    helpers: Helpers, *, turns: int = 8, seed: int = 0, scenarios: Sequence[Scenario] = (SCENARIO,)
) -> CreditCheck:
    config = CheckConfig(turns=turns, rerolls=2, seed=seed)
    return await check_credit(
        recorded_turns(), {item.id: item for item in scenarios}, helpers, Rewards(), config
    )


async def test_difference_is_the_return_of_the_recorded_reply_minus_that_of_others() -> None:
    outcome = await check(Helpers())
    assert len(outcome.turns) == 8
    for turn in outcome.turns:
        if turn.turn == 0:
            # The recorded reply: its move, then one point. Others: two points.
            assert turn.other_returns == (2.0, 2.0)
            assert turn.difference in {-2.0, 0.0, 2.0}
            assert turn.kept_returns == (turn.difference + 2,) * 2
        else:
            # The last turn: its return is its reward, and other replies earn the same point.
            assert (turn.kept_returns, turn.other_returns) == ((1.0,), (1.0, 1.0))
        assert turn.error == 0


async def test_credit_by_turn_agrees_fully_and_credit_by_dialogue_partly() -> None:
    estimators = (await check(Helpers())).estimators
    # Returns at turn 0 are 0, 2, 2, 4: centred -2, 0, 0, 2, the measured difference; at turn 1 both are 0.
    assert estimators["leave-one-out"].pearson.estimate == pytest.approx(1)
    assert estimators["leave-one-out"].sign_agreement.estimate == 1
    # GRPO gives -2, 0, 0, 2 to the second turns too, where the difference is 0: 8 / sqrt(16 * 8).
    assert estimators["GRPO"].pearson.estimate == pytest.approx(math.sqrt(0.5))
    assert estimators["GRPO"].sign_agreement.estimate == 6 / 8


async def test_equal_seeds_give_equal_figures_and_no_two_continuations_share_one() -> None:
    helpers = Helpers()
    assert await check(helpers, seed=3) == await check(Helpers(), seed=3)
    # Four first turns continue both ways, four last ones only with other replies: (4 * 2 + 4) * 2 rerolls.
    assert len({start.seed for start in helpers.starts}) == len(helpers.starts) == 24


async def test_prefix_is_taken_from_the_record() -> None:
    helpers = Helpers()
    await check(helpers)
    for begun in (start.begun for start in helpers.starts):
        assert begun is not None
        num_turns = begun.num_turns
        assert begun.user == ("Hi.", "One.")[num_turns]
        assert begun.spoken == (("Hi.", "Reply."),)[:num_turns]
        # "One." is the fragment that the second message reveals.
        assert begun.told == (1,) * num_turns


async def test_failed_continuation_is_counted_and_left_out() -> None:
    whole = await check(Helpers())
    outcome = await check(Helpers(fails=frozenset({0})))
    # One of two other replies is left, too few for a standard error: the turn is dropped.
    assert (outcome.num_failed, outcome.num_dropped) == (1, 1)
    assert outcome.turns == whole.turns[1:]


async def test_impossible_check_is_explained() -> None:
    with pytest.raises(RecordingError, match="scenario s1 is not in the run's domain"):
        await check(Helpers(), scenarios=())
    moved = replace(SCENARIO, initial_state=(-9.0, 0.0, 0.0))
    with pytest.raises(RecordingError, match="scenario s1: the record starts in"):
        await check(Helpers(), scenarios=(moved,))
    with pytest.raises(RecordingError, match="0 of 8 turns could be compared"):
        await check(Helpers(fails=frozenset(range(24))))


def test_turns_are_taken_from_the_policy_s_own_step_and_from_many_dialogues() -> None:
    stored = recorded_turns(steps=(0, 5, 5, 5))
    places = choose_places(stored, CheckConfig(turns=3), policy_step=5)
    assert {place.row for place in places} == {1, 2, 3}
    everything = choose_places(stored, CheckConfig(turns=99), policy_step=5)
    assert len(set(everything)) == 8
    assert [place.row for place in everything[-2:]] == [0, 0]


@pytest.mark.parametrize("changed", [{"turns": 2}, {"rerolls": 1}, {"gamma": 1.5}])
def test_empty_check_is_refused(changed: dict[str, float]) -> None:
    (name,) = changed
    with pytest.raises(ValueError, match=f"{name} must be"):
        replace(CheckConfig(), **changed)


def test_correlation_comes_with_its_interval() -> None:
    x = np.arange(20.0)
    assert bootstrap_correlation(x, 3 * x, seed=0).low == pytest.approx(1)
    alternating = bootstrap_correlation(x, np.tile([1.0, -1.0], 10), seed=0)
    assert alternating.low < 0 < alternating.high
    assert math.isnan(bootstrap_correlation(x, np.ones(20), seed=0).estimate)
