"""Rules of the embedded world: the effect of a reply on a scripted person.

The person, the needs and their order are described in embedded/README.md. A gain in this world shows that
training works, not that the policy supports anyone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

from mica_ray.embedded.reply_reader import SERVES, Harm, Kind, Reading, read_reply

Levels = tuple[int, int, int]

PROGRESS_POINTS = (0.0, 1.0, 3.0)
REGRESS_POINTS = ((0.0, -2.0, -4.0), (0.0, -2.0, -5.0), (0.0, -2.0, -5.0))
"""EMPA's points (arXiv 2603.00552); the person's state changes by the points that the judge gives."""

HALF = 0.5
GUARD_STEP = 0.25
"""Share of the initial deficit. Each misplaced reply requires that much more of earlier needs to be met."""
MAX_GUARD = 2
PATIENCE = 2
"""From this number of consecutive replies that serve only met needs, the need in focus grows."""
SOFTENING = 1
"""Guard that one specific acknowledgement removes."""

_STRONG = frozenset({Kind.ACKNOWLEDGE, Kind.REFRAME, Kind.STEP})
"""Kinds that reach level 2 if they mention what this person said."""

_VOID = frozenset({Harm.REPEAT, Harm.ECHO, Harm.OVERLOAD, Harm.BROKEN, Harm.SLIP, Harm.IGNORE})
"""Harms that cancel all progress of the reply: repeated, echoed, overloaded, cut off, misdirected."""

_PATIENT = frozenset({Kind.EXPLORE, Kind.AFFIRM})
"""Kinds without effect if they are too early; explaining or advising too early does harm."""


@dataclass(frozen=True, slots=True)
class Inner:
    """State of the person: needs, guard and patience."""

    state: tuple[float, float, float]
    initial: tuple[float, float, float]
    order: tuple[int, int, int]
    """Axis indices in the order in which the needs open."""
    guard: int = 0
    """In 0..MAX_GUARD; misplaced help raises it."""
    stale: int = 0
    """Consecutive replies that served only met needs, or explored or affirmed too early."""

    def is_met(self, axis: int) -> bool:
        """Whether a need is met: above -1 point, the tolerance of the zone distance."""
        return self.state[axis] > -1.0

    def is_open(self, axis: int) -> bool:
        """Whether help for this need can have an effect now."""
        share = max(0.0, HALF - GUARD_STEP * self.guard)
        before = self.order[: self.order.index(axis)]
        return all(self.state[other] >= share * self.initial[other] or self.is_met(other) for other in before)

    @property
    def focus(self) -> int:
        """Axis of the first need that is open and not met, else the last axis."""
        return next(
            (axis for axis in self.order if not self.is_met(axis) and self.is_open(axis)), self.order[-1]
        )


@dataclass(frozen=True, slots=True)
class Felt:
    """Effect of one reply on the person."""

    reading: Reading
    progress: Levels
    regress: Levels
    after: Inner
    mood: str
    """"moved", "eased", "hurt", "pushed", "stale" or "unheard": the tone of the person's answer."""


def start(initial_state: Sequence[float], order: Sequence[int]) -> Inner:
    """Return the person's state at the start of a dialogue."""
    state = (float(initial_state[0]), float(initial_state[1]), float(initial_state[2]))
    return Inner(state=state, initial=state, order=(order[0], order[1], order[2]))


def take(inner: Inner, reading: Reading) -> Felt:
    """Compute the effect of one reply: levels per axis, new state and mood."""
    progress, misplaced = _progress(inner, reading)
    is_stale = not any(progress) and not misplaced and bool(reading.kinds)
    stale = inner.stale + 1 if is_stale else 0
    regress = _regress(inner, reading, misplaced, stale)
    if reading.harms & _VOID:
        progress = (0, 0, 0)
    guard = inner.guard
    if misplaced or Harm.DISMISS in reading.harms or Harm.PREACH in reading.harms:
        guard = min(MAX_GUARD, guard + 1)
    elif progress[inner.order[0]] == 2:
        guard = max(0, guard - SOFTENING)
    state = tuple(
        value + PROGRESS_POINTS[up] + REGRESS_POINTS[axis][-down]
        for axis, (value, up, down) in enumerate(zip(inner.state, progress, regress, strict=True))
    )
    after = replace(inner, state=(state[0], state[1], state[2]), guard=guard, stale=stale)
    return Felt(reading, progress, regress, after, _mood(reading, progress, regress, misplaced, stale))


def replay(inner: Inner, dialogue: Sequence[tuple[str, str]]) -> tuple[Felt, ...]:
    """Compute the effects of a dialogue from its start: one `Felt` per (user message, reply)."""
    return _replay(inner, tuple(dialogue))


@lru_cache(maxsize=4096)
def _replay(inner: Inner, dialogue: tuple[tuple[str, str], ...]) -> tuple[Felt, ...]:
    """Replay by prefix, so that the cache evaluates each reply once for all three roles."""
    if not dialogue:
        return ()
    felt = _replay(inner, dialogue[:-1])
    heard = [user for user, _ in dialogue]
    earlier = [reply for _, reply in dialogue[:-1]]
    reading = read_reply(dialogue[-1][1], heard=heard, earlier=earlier)
    return (*felt, take(felt[-1].after if felt else inner, reading))


def _progress(inner: Inner, reading: Reading) -> tuple[Levels, set[int]]:
    """Return progress levels per axis, and the axes that were served before they were open."""
    levels = [0, 0, 0]
    misplaced: set[int] = set()
    for kind in reading.kinds:
        axis = SERVES[kind]
        if not inner.is_open(axis):
            if kind not in _PATIENT:
                misplaced.add(axis)
        elif not inner.is_met(axis):
            level = 2 if kind in _STRONG and reading.is_specific else 1
            levels[axis] = max(levels[axis], level)
    return (levels[0], levels[1], levels[2]), misplaced


def _regress(inner: Inner, reading: Reading, misplaced: set[int], stale: int) -> Levels:
    """Return regress levels per axis, from the reply's harms and from help at the wrong time."""
    first = inner.order[0]
    levels = [0, 0, 0]

    def hurt(axis: int, level: int) -> None:
        levels[axis] = min(levels[axis], level)

    for axis in misplaced:
        hurt(axis, -1)
        hurt(first, -1)
    if stale >= PATIENCE:
        hurt(inner.focus, -1)  # An open need that is not served gets worse, whatever the comfort.
    harm_levels: dict[Harm, Levels] = {
        Harm.DISMISS: (0, -2, 0),
        Harm.PREACH: (0, -1, -1),
        Harm.HOLLOW: (-1, -1, -1),
        Harm.OVERLOAD: (-1, -1, 0),
        # As costly as the emptiest complete reply: otherwise never ending a reply would pay.
        Harm.BROKEN: (-1, -1, -1),
        Harm.REPEAT: (0, -1, 0),
        Harm.ECHO: (0, -1, 0),
        Harm.IGNORE: (-1, -1, 0),
        Harm.SLIP: (-2, -1, 0),
    }
    for harm in reading.harms:
        for axis, level in enumerate(harm_levels[harm]):
            hurt(axis, level)
    return levels[0], levels[1], levels[2]


def _mood(reading: Reading, progress: Levels, regress: Levels, misplaced: set[int], stale: int) -> str:
    """Return the mood of the person's answer."""
    if Harm.DISMISS in reading.harms or Harm.SLIP in reading.harms:
        return "hurt"
    if misplaced or Harm.PREACH in reading.harms or Harm.OVERLOAD in reading.harms:
        return "pushed"
    if any(regress):
        return "unheard"
    if 2 in progress:
        return "moved"
    return "eased" if any(progress) else "stale"
