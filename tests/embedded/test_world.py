"""How the person of the embedded world takes replies: order, guard, stale help, the cost of an early turn."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from mica_ray.embedded.reply_reader import Harm, Kind, Reading
from mica_ray.embedded.world import MAX_GUARD, Felt, Inner, replay, start, take
from mica_ray.rewards import Rewards
from tests.embedded.embedded_talk import NEED_ORDER, TESTS, say, talk

C, A, P = 0, 1, 2


def person(c: float = -6.0, a: float = -6.0, p: float = -6.0) -> Inner:
    return start((c, a, p), NEED_ORDER)


def reading(*kinds: Kind, harms: frozenset[Harm] = frozenset(), is_specific: bool = True) -> Reading:
    return Reading(frozenset(kinds), harms, is_specific, {})


def lived(inner: Inner, *replies: Reading) -> list[Felt]:
    felt: list[Felt] = []
    for reply in replies:
        felt.append(take(felt[-1].after if felt else inner, reply))
    return felt


ACKNOWLEDGE, REFRAME, STEP = reading(Kind.ACKNOWLEDGE), reading(Kind.REFRAME), reading(Kind.STEP)


def test_needs_open_in_order_each_when_those_before_are_half_met() -> None:
    # A 6 -> 3 with one specific acknowledgement: half, so C opens; then C 6 -> 3 opens P.
    inner = person()
    assert [inner.is_open(axis) for axis in (A, C, P)] == [True, False, False]
    felt = lived(inner, ACKNOWLEDGE, REFRAME)
    assert [felt[0].after.is_open(axis) for axis in (A, C, P)] == [True, True, False]
    assert [felt[1].after.is_open(axis) for axis in (A, C, P)] == [True, True, True]
    assert felt[1].after.state == (-3.0, -3.0, -6.0)


def test_focus_moves_with_the_needs() -> None:
    felt = lived(person(), ACKNOWLEDGE, ACKNOWLEDGE, REFRAME, REFRAME, STEP, STEP)
    assert [one.after.focus for one in felt] == [A, C, C, P, P, P]
    assert felt[-1].after.state == (0.0, 0.0, 0.0)


def test_specific_help_counts_more_and_patient_kinds_count_less() -> None:
    # Levels 2 and 1 are worth 3 and 1 points; exploring and affirming never reach level 2.
    assert take(person(), ACKNOWLEDGE).progress == (0, 2, 0)
    assert take(person(), reading(Kind.ACKNOWLEDGE, is_specific=False)).progress == (0, 1, 0)
    calm = person(a=0.0)
    assert take(calm, reading(Kind.EXPLORE)).progress == (1, 0, 0)
    assert take(calm, REFRAME).progress == (2, 0, 0)


def test_advice_before_the_person_feels_heard_harms_and_raises_the_guard() -> None:
    # P and A each regress one level: -2 points.
    felt = take(person(), STEP)
    assert (felt.progress, felt.regress, felt.mood) == ((0, 0, 0), (0, -1, -1), "pushed")
    assert (felt.after.state, felt.after.guard) == ((-6.0, -8.0, -8.0), 1)


def test_exploring_and_affirming_too_early_is_merely_idle() -> None:
    felt = take(person(), reading(Kind.EXPLORE, Kind.AFFIRM))
    assert (felt.progress, felt.regress, felt.after.guard, felt.mood) == ((0, 0, 0), (0, 0, 0), 0, "stale")


def test_guard_delays_the_opening() -> None:
    # A 6 asks for -3 at guard 0, for -1.5 at guard 1, and for all of it at guard 2.
    half = Inner(state=(-6.0, -3.0, -6.0), initial=(-6.0, -6.0, -6.0), order=(A, C, P))
    open_at = [Inner(half.state, half.initial, half.order, guard=guard).is_open(C) for guard in (0, 1, 2)]
    assert open_at == [True, False, False]
    nearly = [
        Inner((-6.0, -1.5, -6.0), half.initial, half.order, guard=guard).is_open(C) for guard in (0, 1, 2)
    ]
    assert nearly == [True, True, False]


def test_guard_has_a_ceiling_and_a_specific_acknowledgement_lowers_it() -> None:
    felt = lived(person(), STEP, STEP, STEP, ACKNOWLEDGE, reading(Kind.ACKNOWLEDGE, is_specific=False))
    assert [one.after.guard for one in felt] == [1, 2, MAX_GUARD, 1, 1]


def test_orders_and_dismissal_raise_the_guard_too() -> None:
    for harm in (Harm.PREACH, Harm.DISMISS):
        assert take(person(), reading(Kind.ACKNOWLEDGE, harms=frozenset({harm}))).after.guard == 1


def test_validation_forever_stalls() -> None:
    # A -4: -1, then met at 2; the third is idle, and from the fourth on the focus, C, gets worse.
    felt = lived(person(a=-4.0), *[ACKNOWLEDGE] * 5)
    assert [one.progress[A] for one in felt] == [2, 2, 0, 0, 0]
    assert [one.regress[C] for one in felt] == [0, 0, 0, -1, -1]
    assert [one.regress[A] for one in felt] == [0, 0, 0, 0, 0]
    assert [one.mood for one in felt] == ["moved", "moved", "stale", "unheard", "unheard"]
    assert [one.after.state[A] for one in felt] == [-1.0, 2.0, 2.0, 2.0, 2.0]


def test_harm_in_the_form_lets_nothing_land() -> None:
    for harm in (Harm.REPEAT, Harm.ECHO, Harm.OVERLOAD, Harm.BROKEN, Harm.SLIP, Harm.IGNORE):
        felt = take(person(), reading(Kind.ACKNOWLEDGE, harms=frozenset({harm})))
        assert felt.progress == (0, 0, 0) and min(felt.regress) < 0, harm


def test_no_empty_reply_gains_by_not_being_ended() -> None:
    broken = take(person(), reading(harms=frozenset({Harm.BROKEN}))).after
    for harm in (Harm.HOLLOW, Harm.IGNORE, Harm.OVERLOAD, Harm.REPEAT, Harm.ECHO):
        ended = take(person(), reading(harms=frozenset({harm}))).after
        assert all(now <= whole for now, whole in zip(broken.state, ended.state, strict=True)), harm


async def test_early_turn_decides_what_later_turns_can_earn() -> None:
    # Only turn 1 differs: advice in place of acknowledgement. The same replies then earn less, since the
    # person is guarded and A lies deeper: explaining and advising then come before anyone was heard.
    scenario = next(one for one in TESTS if one.id == "es-work-a-04")
    rest = [
        say(kind, number, scenario)
        for number, kind in enumerate(["acknowledge", *["reframe"] * 2, *["step"] * 2, "acknowledge", "step"])
    ]
    both = []
    for first in (say("acknowledge", 8, scenario), say("step", 8, scenario)):
        replies = [first, *rest]
        both.append(
            await talk(lambda scenario, heard, said, replies=replies: replies[len(said) % 8], scenario)
        )
    later = Rewards()(both).rewards[:, 1:5]
    assert [turn.reply for turn in both[0].turns[1:5]] == [turn.reply for turn in both[1].turns[1:5]]
    assert later[0].sum() > 0 > later[1].sum()
    np.testing.assert_array_less(later[1, 1:], later[0, 1:])  # Turn 2, an acknowledgement, heals in both.


KINDS = st.frozensets(st.sampled_from(Kind), max_size=2)
HARMS = st.frozensets(st.sampled_from(Harm), max_size=2)
READINGS = st.builds(Reading, kinds=KINDS, harms=HARMS, is_specific=st.booleans(), evidence=st.just({}))


@settings(deadline=None, max_examples=60)
@given(st.lists(READINGS, min_size=1, max_size=12))
def test_levels_are_a_judges_levels_and_the_guard_stays_in_bounds(replies: list[Reading]) -> None:
    for felt in lived(person(), *replies):
        assert set(felt.progress) <= {0, 1, 2} and set(felt.regress) <= {0, -1, -2}
        assert 0 <= felt.after.guard <= MAX_GUARD


@settings(deadline=None, max_examples=60)
@given(st.lists(READINGS, max_size=6), KINDS, HARMS, st.booleans())
def test_harm_never_helps(
    before: list[Reading], kinds: frozenset[Kind], harms: frozenset[Harm], own: bool
) -> None:
    inner = lived(person(), *before)[-1].after if before else person()
    clean = take(inner, Reading(kinds, frozenset(), own, {})).after
    harmed = take(inner, Reading(kinds, harms, own, {})).after
    assert all(bad <= good for bad, good in zip(harmed.state, clean.state, strict=True))
    assert harmed.guard >= clean.guard


REPLIES = st.sampled_from(
    [say(kind, number, TESTS[0]) for kind in ("acknowledge", "step") for number in range(3)]
)


@settings(deadline=None, max_examples=40)
@given(st.lists(REPLIES, max_size=6), st.integers(0, 6))
def test_past_is_not_rewritten_by_what_follows(replies: list[str], cut: int) -> None:
    dialogue = [(f"{TESTS[0].opening} {number}", reply) for number, reply in enumerate(replies)]
    assert replay(person(), dialogue)[:cut] == replay(person(), dialogue[:cut])
