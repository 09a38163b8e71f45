"""Every credit estimator keeps the rules of the protocol; the check finds those that do not."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mica_ray import credit
from mica_ray.credit import (
    AnchorStates,
    CreditEstimator,
    Grpo,
    LambdaReturns,
    Mica,
    ReinforcePlusPlus,
    ReturnToGo,
    Rloo,
    TurnGae,
    check_estimator,
)
from mica_ray.types import TurnRewards

ESTIMATORS: list[CreditEstimator] = [
    Mica(),
    Mica(alpha=1.0),
    Mica(alpha=0.0),
    Mica(alpha=0.0, immediate_scope="batch"),
    Mica(alpha=1.0, horizon="shortest"),
    Mica(alpha=1.0, lone_turn="group"),
    Mica(baseline="leave_one_out", divide=False),
    Mica(alpha=1.0, gamma=1.0, baseline="leave_one_out", divide=False, lone_turn="return"),
    Grpo(),
    Grpo(divide=False),
    Rloo(),
    ReinforcePlusPlus("trajectory"),
    ReinforcePlusPlus("batch_idr"),
    ReinforcePlusPlus("baseline"),
    ReturnToGo(),
    ReturnToGo(gamma=0.9, lone_baseline="none"),
    AnchorStates(),
    AnchorStates(resolution=2.0, baseline="leave_one_out", divide=False),
    TurnGae(),
    TurnGae(lam=0.0, whiten=False),
    LambdaReturns(turn_lambda=0.9),
    LambdaReturns(turn_lambda=0.0, group_lambda=1.0, scope="batch"),
    LambdaReturns(baseline="leave_one_out", divide=False),
]

DIVIDED = [
    estimator
    for estimator in ESTIMATORS
    if getattr(estimator, "divide", True) and getattr(estimator, "whiten", True)
    if not isinstance(estimator, Rloo | ReturnToGo)
]
"""Estimators whose advantages have no unit; those of the others are in reward units."""

COMPARED_AT_ONE_TURN = [estimator for estimator in ESTIMATORS if getattr(estimator, "group_lambda", 0.0) == 0]
"""Estimators that compare returns only at the same turn or state, apart from immediate rewards.

A shift of all rewards raises every return by the shift times the number of turns left. Dialogues of equal
length at the same turn get the same increase, which the comparison removes. Comparing returns of different
turns (`group_lambda` above 0) keeps it.
"""


def test_every_estimator_of_the_package_is_tested_here() -> None:
    offered = {item for name in credit.__all__ if isinstance(item := getattr(credit, name), type)}
    assert {type(estimator) for estimator in ESTIMATORS} == offered - {CreditEstimator}


@pytest.mark.parametrize("estimator", ESTIMATORS, ids=repr)
def test_estimator_keeps_the_promises(estimator: CreditEstimator) -> None:
    check_estimator(estimator)


@pytest.mark.parametrize("estimator", ESTIMATORS, ids=repr)
def test_estimator_travels_by_value(estimator: CreditEstimator) -> None:
    assert pickle.loads(pickle.dumps(estimator)) == estimator


UNIT_FIELDS = [
    (Mica, "alpha"),
    (Mica, "gamma"),
    (LambdaReturns, "alpha"),
    (LambdaReturns, "gamma"),
    (LambdaReturns, "turn_lambda"),
    (LambdaReturns, "group_lambda"),
    (ReturnToGo, "gamma"),
    (AnchorStates, "gamma"),
    (TurnGae, "gamma"),
    (TurnGae, "lam"),
]


@pytest.mark.parametrize(("kind", "field"), UNIT_FIELDS)
def test_weight_ends_exactly_at_zero_and_one(kind: Callable[..., CreditEstimator], field: str) -> None:
    for value in (0.0, 1.0):
        assert getattr(kind(**{field: value}), field) == value
    for value in (-1e-9, 1 + 1e-9):
        with pytest.raises(ValueError, match=rf"{field} must be in \[0, 1\], got "):
            kind(**{field: value})


@pytest.mark.parametrize(
    ("kind", "field", "lowest"),
    [(AnchorStates, "weight", 0.0), (AnchorStates, "resolution", 0.0), (TurnGae, "ridge", 1e-9)],
)
def test_weight_without_an_upper_limit_is_finite(
    kind: Callable[..., CreditEstimator], field: str, lowest: float
) -> None:
    for value in (lowest, 1e9):
        assert getattr(kind(**{field: value}), field) == value
    for value in (lowest - 1e-9, np.nan):
        with pytest.raises(ValueError, match=rf"{field} must be "):
            kind(**{field: value})
    with pytest.raises(ValueError, match=rf"{field}.* must be finite, got .*inf"):
        kind(**{field: np.inf})


@pytest.mark.parametrize("estimator", ESTIMATORS, ids=repr)
def test_float32_batches_are_computed_in_float64(estimator: CreditEstimator) -> None:
    # Sixteenths have few digits, but not their discounted sums.
    generator = np.random.default_rng(5)
    rewards = generator.integers(-9, 9, size=(6, 3)) / 16
    states = generator.integers(-3, 1, size=(6, 3, 2)).astype(np.float64)
    turns = TurnRewards(rewards, generator.random((6, 3)) > 0.2, np.array([0, 0, 0, 1, 1, 1]), states)
    single = replace(turns, rewards=rewards.astype(np.float32), states=states.astype(np.float32))
    assert estimator(single).dtype == np.float64
    np.testing.assert_array_equal(estimator(single), estimator(turns))


@pytest.mark.parametrize("estimator", COMPARED_AT_ONE_TURN, ids=repr)
def test_constant_batch_gets_exactly_zero_credit(estimator: CreditEstimator) -> None:
    constant = np.full((6, 3), 0.1)
    states = np.broadcast_to(10.0 * np.arange(3)[:, None], (6, 3, 1))
    turns = TurnRewards(constant, np.ones((6, 3), bool), np.array([0, 0, 0, 1, 1, 1]), states)
    np.testing.assert_array_equal(estimator(turns), np.zeros((6, 3)))


@st.composite
def batches(draw: st.DrawFn) -> TurnRewards:
    """Whole-number rewards and states, ragged dialogues with holes, up to three groups."""
    num_dialogues, num_turns = draw(st.integers(2, 6)), draw(st.integers(1, 4))
    shape = (num_dialogues, num_turns)
    generator = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    valid = (np.arange(num_turns) < generator.integers(0, num_turns + 1, size=(num_dialogues, 1))) & (
        generator.random(shape) > 0.2
    )
    return TurnRewards(
        generator.integers(-4, 5, size=shape).astype(np.float64),
        valid,
        generator.integers(0, 3, size=num_dialogues),
        generator.integers(-2, 1, size=(*shape, 2)).astype(np.float64),
    )


@pytest.mark.parametrize("estimator", ESTIMATORS, ids=repr)
@settings(deadline=None, max_examples=30)
@given(batches(), st.integers(0, 99), st.sampled_from([np.nan, np.inf, 1e9]))
def test_padding_order_and_junk_never_matter(
    estimator: CreditEstimator, turns: TurnRewards, seed: int, junk: float
) -> None:
    order = np.random.default_rng(seed).permutation(len(turns.group))
    assert turns.states is not None
    wide = ((0, 0), (0, 1))
    moved = TurnRewards(
        np.pad(np.where(turns.valid, turns.rewards, junk), wide, constant_values=junk)[order],
        np.pad(turns.valid, wide)[order],
        turns.group[order] + 7,
        np.pad(np.where(turns.valid[..., None], turns.states, junk), (*wide, (0, 0)))[order],
    )
    advantages = estimator(turns)
    assert np.isfinite(advantages).all()
    assert not advantages[~turns.valid].any()
    # 1e-7: sums in another order, and the slopes of a critic that few points determine badly.
    np.testing.assert_allclose(estimator(moved)[:, :-1], advantages[order], atol=1e-7)


@pytest.mark.parametrize("estimator", COMPARED_AT_ONE_TURN, ids=repr)
@settings(deadline=None, max_examples=30)
@given(batches(), st.integers(-9, 9))
def test_shift_of_all_rewards_changes_nothing_at_equal_lengths(
    estimator: CreditEstimator, turns: TurnRewards, shift: int
) -> None:
    # With unequal lengths a shift pays or fines every further turn: another task, and no invariance. A state
    # that is the turn index is known to all alike. Two dialogues a group: a lone return would keep the shift.
    num_dialogues, num_turns = turns.rewards.shape
    states = np.broadcast_to(10.0 * np.arange(num_turns)[:, None], (num_dialogues, num_turns, 1))
    group = np.arange(num_dialogues) // 2 if num_dialogues % 2 == 0 else np.zeros(num_dialogues, np.int64)
    whole = TurnRewards(turns.rewards, np.ones_like(turns.valid), group, states)
    moved = replace(whole, rewards=whole.rewards + shift)
    # 1e-6: EPS aside, centring removes the shift up to rounding.
    np.testing.assert_allclose(estimator(moved), estimator(whole), atol=1e-6)


@pytest.mark.parametrize("estimator", ESTIMATORS, ids=repr)
@settings(deadline=None, max_examples=30)
@given(batches(), st.sampled_from([0.5, 2.0, 16.0]))
def test_scale_of_rewards_is_kept_or_divided_out(
    estimator: CreditEstimator, turns: TurnRewards, scale: float
) -> None:
    # Discounted returns may lie close together: so large that EPS, which does not scale, is nothing.
    large = turns.rewards * 2.0**20
    scaled = estimator(replace(turns, rewards=large * scale))
    expected = estimator(replace(turns, rewards=large)) * (1.0 if estimator in DIVIDED else scale)
    np.testing.assert_allclose(scaled, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("estimator", [AnchorStates(), TurnGae()], ids=repr)
def test_estimator_that_reads_states_says_when_there_are_none(estimator: CreditEstimator) -> None:
    turns = TurnRewards(np.zeros((2, 1)), np.ones((2, 1), bool), np.zeros(2, np.int64))
    with pytest.raises(ValueError, match=r"needs states, got TurnRewards\.states=None"):
        estimator(turns)


@dataclass(frozen=True)
class Raw:
    """Credits a turn with its own reward and forgets the mask."""

    def __call__(self, turns: TurnRewards) -> np.ndarray:
        return turns.rewards.astype(np.float64)


@dataclass(frozen=True)
class Padded:
    """Includes padding in the mean."""

    def __call__(self, turns: TurnRewards) -> np.ndarray:
        filled = np.where(turns.valid, turns.rewards, 0.0)
        mean = filled.sum() / max(filled.size, 1)
        return np.where(turns.valid, filled - mean, 0.0)


@dataclass(frozen=True)
class FirstIsBest:
    """Depends on the order of the dialogues."""

    def __call__(self, turns: TurnRewards) -> np.ndarray:
        rank = -np.arange(len(turns.group), dtype=np.float64)
        return np.where(turns.valid, rank[:, None], 0.0)


@dataclass(frozen=True)
class Divider:
    """Divides by a deviation that can be zero."""

    def __call__(self, turns: TurnRewards) -> np.ndarray:
        rewards = np.where(turns.valid, turns.rewards, 0.0)
        with np.errstate(all="ignore"):
            spread = rewards.max(initial=-99) - rewards.min(initial=99)
            return np.where(turns.valid, rewards / spread, 0.0)


@dataclass(frozen=True)
class Writer:
    """Zeroes its own input."""

    def __call__(self, turns: TurnRewards) -> np.ndarray:
        turns.rewards[~turns.valid] = 0.0
        return np.zeros(turns.rewards.shape)


@dataclass(frozen=True)
class Halved(Grpo):
    """Leaves every turn out of the training, and still gives it an advantage."""

    def trained(self, turns: TurnRewards) -> np.ndarray:
        return np.zeros_like(turns.valid)


@dataclass(frozen=True)
class Outside(Grpo):
    """Trains on turns that nobody judged."""

    def trained(self, turns: TurnRewards) -> np.ndarray:
        return np.ones_like(turns.valid)


@dataclass(frozen=True)
class PerDialogue:
    """Returns one number per dialogue instead of one per turn."""

    def __call__(self, turns: TurnRewards) -> np.ndarray:
        return np.zeros(len(turns.group))


@pytest.mark.parametrize(
    ("impostor", "promise"),
    [
        (Raw(), "0 where not trained on"),
        (Halved(), "0 where not trained on"),
        (Outside(), "only valid turns"),
        (Padded(), "padding columns"),
        (FirstIsBest(), "order of dialogues"),
        (Divider(), "finite"),
        (Writer(), "write into its input"),
        (PerDialogue(), "must return"),
    ],
    ids=lambda value: type(value).__name__ if not isinstance(value, str) else "",
)
def test_check_names_the_broken_promise(impostor: CreditEstimator, promise: str) -> None:
    with pytest.raises(ValueError, match=promise):
        check_estimator(impostor)


class Recorder:
    """Credits nothing and keeps every batch it was called with."""

    def __init__(self) -> None:
        self.batches: list[TurnRewards] = []

    def __call__(self, turns: TurnRewards) -> np.ndarray:
        self.batches.append(turns)
        return np.zeros(turns.rewards.shape)


CORNER_CASES = (
    "mixed batch",
    "constant rewards",
    "single-member groups",
    "no valid turn",
    "NaN where not valid",
    "one turn",
    "one dialogue",
    "no turns",
    "no dialogues",
)


@dataclass(frozen=True)
class FailsAt:
    """Returns float32 from its n-th call on, and before that no credit."""

    number: int
    calls: list[int] = field(default_factory=list)

    def __call__(self, turns: TurnRewards) -> np.ndarray:
        self.calls.append(1)
        is_late = len(self.calls) > self.number
        return np.zeros(turns.rewards.shape, np.float32 if is_late else np.float64)


@pytest.mark.parametrize(("number", "name"), list(enumerate(CORNER_CASES)))
def test_every_corner_case_is_tried_and_named(number: int, name: str) -> None:
    impostor = FailsAt(number)
    with pytest.raises(ValueError) as caught:
        check_estimator(impostor)
    message = str(caught.value)
    assert message.startswith(f"{impostor!r} is not a valid credit estimator: it must return ('ndarray', (")
    assert "'float64'), got ('ndarray', (" in message
    assert message.endswith(f"'float32') ({name}).")


def test_corner_cases_are_what_their_names_promise() -> None:
    recorder = Recorder()
    check_estimator(recorder)
    cases = dict(zip(CORNER_CASES, recorder.batches, strict=False))
    assert len(recorder.batches) == 9 + 6  # and the mixed batch with its five variants
    shapes = [case.rewards.shape for case in cases.values()]
    assert shapes == [(8, 4), (4, 3), (4, 3), (8, 4), (8, 4), (4, 1), (1, 3), (4, 0), (0, 3)]
    for name, case in cases.items():
        assert case.states is not None and case.states.shape == (*case.rewards.shape, 2), name
        # Whole points from -3 to -1: some turns share a state.
        known = case.states[case.valid]
        assert set(np.unique(known)) <= {-3.0, -2.0, -1.0}, name
    mixed = cases["mixed batch"]
    assert mixed.states is not None
    # Lengths 4 (with a hole), 2, 3, 0, 1, 4, 4, 3; groups of four, three and one.
    assert mixed.valid.sum(axis=1).tolist() == [3, 2, 3, 0, 1, 4, 4, 3]
    assert mixed.valid[0].tolist() == [True, False, True, True]
    assert mixed.group.tolist() == [0, 0, 0, 0, 1, 1, 1, 2]
    assert len(np.unique(mixed.rewards)) == mixed.rewards.size
    assert 1 < len(np.unique(mixed.states[mixed.valid], axis=0)) < mixed.valid.sum()
    for name in ("constant rewards", "single-member groups", "one turn", "one dialogue"):
        assert cases[name].valid.all(), name
    assert set(cases["constant rewards"].rewards.flat) == {0.1}
    for name in ("constant rewards", "one turn", "one dialogue", "no turns", "no dialogues"):
        assert not cases[name].group.any(), name
    assert len(set(cases["single-member groups"].group.tolist())) == 4
    for name in ("single-member groups", "one turn", "one dialogue"):
        assert len(np.unique(cases[name].rewards)) == cases[name].rewards.size, name
    assert not cases["no valid turn"].valid.any()
    hidden = cases["NaN where not valid"]
    assert hidden.states is not None
    assert np.isnan(hidden.rewards[~hidden.valid]).all() and np.isnan(hidden.states[~hidden.valid]).all()
    np.testing.assert_array_equal(hidden.rewards[hidden.valid], mixed.rewards[mixed.valid])
    np.testing.assert_array_equal(hidden.states[hidden.valid], mixed.states[mixed.valid])


def test_variants_of_the_mixed_batch_change_what_must_not_matter() -> None:
    recorder = Recorder()
    check_estimator(recorder)
    mixed, again, reordered, renamed, hidden, wide = recorder.batches[9:]
    assert mixed.states is not None and reordered.states is not None and wide.states is not None
    np.testing.assert_array_equal(again.rewards, mixed.rewards)
    order = [int(np.flatnonzero((mixed.rewards == row).all(axis=1))[0]) for row in reordered.rewards]
    assert sorted(order) == list(range(8)) and order not in (list(range(8)), list(range(7, -1, -1)))
    for name in ("valid", "group", "states"):
        np.testing.assert_array_equal(getattr(reordered, name), getattr(mixed, name)[order])
    # The same partition in other numbers, in another order.
    pairs = set(zip(mixed.group.tolist(), renamed.group.tolist(), strict=True))
    assert len(pairs) == 3 and [new for _, new in sorted(pairs)] == sorted(set(renamed.group), reverse=True)
    assert not {new for _, new in pairs} & {old for old, _ in pairs}
    np.testing.assert_array_equal(renamed.rewards, mixed.rewards)
    assert np.isnan(hidden.rewards).any() and not np.isnan(hidden.rewards[hidden.valid]).any()
    assert wide.rewards.shape[1] > 4 and not wide.valid[:, 4:].any()
    assert wide.rewards[:, 4:].all() and wide.states[:, 4:].all()  # padding that would be noticed
    for name in ("rewards", "valid", "states"):
        np.testing.assert_array_equal(getattr(wide, name)[:, :4], getattr(mixed, name))
    np.testing.assert_array_equal(wide.group, mixed.group)


@dataclass(frozen=True)
class Overwriter:
    """Changes one array of its input in place."""

    name: str

    def __call__(self, turns: TurnRewards) -> np.ndarray:
        array = getattr(turns, self.name)
        if array.size:
            array.reshape(-1)[0] = not array.reshape(-1)[0] if array.dtype == bool else 77
        return np.zeros(turns.rewards.shape)


@pytest.mark.parametrize("name", ["rewards", "valid", "group", "states"])
def test_writing_into_any_input_is_noticed(name: str) -> None:
    with pytest.raises(ValueError, match=r"it must not write into its input \(mixed batch\)\."):
        check_estimator(Overwriter(name))


@dataclass(frozen=True)
class Off:
    """Credits 1 where it may not: at one place that depends on an invariance that it breaks."""

    kind: str
    seen: list[int] = field(default_factory=list)

    def __call__(self, turns: TurnRewards) -> np.ndarray:
        self.seen.append(1)
        advantages = np.zeros(turns.rewards.shape)
        broken = {
            "drifts": len(self.seen) * 1e-6,
            "by number": float(turns.group.max(initial=0)),
            "by place": np.arange(len(turns.group))[:, None],
            "by hidden value": float(np.isnan(turns.rewards).sum()),
            "by width": float(turns.rewards.shape[1] > 4),
        }[self.kind]
        return np.where(turns.valid, advantages + broken, 0.0)


@pytest.mark.parametrize(
    ("kind", "rule"),
    [
        ("drifts", "equal batches must get equal advantages"),
        ("by place", "the order of dialogues must not matter"),
        ("by number", "the numbers of groups must not matter"),
        ("by hidden value", "values where a turn is not valid must not matter"),
        ("by width", "padding columns must not matter"),
    ],
)
def test_broken_invariance_is_named(kind: str, rule: str) -> None:
    with pytest.raises(ValueError, match=rf"is not a valid credit estimator: {rule}\.$"):
        check_estimator(Off(kind))


@pytest.mark.parametrize(("step", "is_refused"), [(0.4e-9, False), (1.6e-9, True)])
def test_advantages_may_differ_by_rounding(step: float, is_refused: bool) -> None:
    # The tolerance is 1e-9; call 10 is compared with the calls 11 to 15, of which only the next may differ.
    calls: list[int] = []

    def drifting(turns: TurnRewards) -> np.ndarray:
        calls.append(1)
        return np.where(turns.valid, 1.0 + (step if len(calls) > 10 else 0.0), 0.0)

    if is_refused:
        with pytest.raises(ValueError, match="equal batches"):
            check_estimator(drifting)
    else:
        check_estimator(drifting)
