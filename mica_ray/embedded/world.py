"""The embedded world: how a scripted person takes a reply. Pure functions of what was said, nothing hidden.

What this stand-in is not: a person, a therapist's judgement, or evidence that a policy comforts anyone. It is
a small process with delayed effects that reads real text, so that the whole training path can be run and
measured without a language-model judge. Gains here say that the training works, not that the policy is kind.

Needs open in `need_order` (felt, then understood, then able). A need opens when every need before it is at
least half met; help for a need that is not open yet does harm and leaves the person guarded, and a guarded
person opens later. So an early turn decides what later turns can earn, and credit has to cross turns.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

from mica_ray.embedded.reply_reader import SERVES, Harm, Kind, Reading, read_reply

Levels = tuple[int, int, int]

PROGRESS_POINTS = (0.0, 1.0, 3.0)
REGRESS_POINTS = ((0.0, -2.0, -4.0), (0.0, -2.0, -5.0), (0.0, -2.0, -5.0))
"""EMPA's points (arXiv 2603.00552): how far the person moves is what the judge writes down."""

HALF = 0.5
GUARD_STEP = 0.25
"""Each misplaced reply asks for this much more of the earlier needs to be met before the next one opens."""
MAX_GUARD = 2
PATIENCE = 2
"""Replies in a row that serve only met needs, from which on the need in focus grows."""
SOFTENING = 1
"""Guard that one specific acknowledgement takes away."""

_STRONG = frozenset({Kind.ACKNOWLEDGE, Kind.REFRAME, Kind.STEP})
"""Kinds that reach level 2 when they take up what this person said."""

_VOID = frozenset({Harm.REPEAT, Harm.ECHO, Harm.OVERLOAD, Harm.BROKEN, Harm.SLIP, Harm.IGNORE})
"""Harms by which nothing of the reply lands: said before, said by the person, said with everything else, not
said to the end, not said to the person."""

_PATIENT = frozenset({Kind.EXPLORE, Kind.AFFIRM})
"""Kinds that are merely idle when they come too early; explaining and advising too early hurt."""


@dataclass(frozen=True, slots=True)
class Inner:
    """What goes on in the person."""

    state: tuple[float, float, float]
    initial: tuple[float, float, float]
    order: tuple[int, int, int]
    """Axis indices in the order in which needs open."""
    guard: int = 0
    """0..MAX_GUARD, raised by misplaced help."""
    stale: int = 0
    """Replies in a row that only served needs already met."""

    def is_met(self, axis: int) -> bool:
        """Whether a need no longer weighs: above -1, the tolerance of the zone distance."""
        return self.state[axis] > -1.0

    def is_open(self, axis: int) -> bool:
        """Whether help for this need can land now."""
        share = max(0.0, HALF - GUARD_STEP * self.guard)
        before = self.order[: self.order.index(axis)]
        return all(self.state[other] >= share * self.initial[other] or self.is_met(other) for other in before)

    @property
    def focus(self) -> int:
        """The axis the person is taken up with: the first open need that is not met, else the last one."""
        return next(
            (axis for axis in self.order if not self.is_met(axis) and self.is_open(axis)), self.order[-1]
        )


@dataclass(frozen=True, slots=True)
class Felt:
    """How one reply was taken."""

    reading: Reading
    progress: Levels
    regress: Levels
    after: Inner
    mood: str
    """"moved", "eased", "hurt", "pushed", "stale" or "unheard": how the person answers."""


def start(initial_state: Sequence[float], order: Sequence[int]) -> Inner:
    """Give the person before anything was said."""
    state = (float(initial_state[0]), float(initial_state[1]), float(initial_state[2]))
    return Inner(state=state, initial=state, order=(order[0], order[1], order[2]))


def take(inner: Inner, reading: Reading) -> Felt:
    """Let the person take one reply: levels per axis and what changed in them."""
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
    """Let the person take a dialogue from its start: one `Felt` per (user message, reply)."""
    return _replay(inner, tuple(dialogue))


@lru_cache(maxsize=4096)
def _replay(inner: Inner, dialogue: tuple[tuple[str, str], ...]) -> tuple[Felt, ...]:
    """Replay by prefix, so that three roles asking after every turn read each reply once."""
    if not dialogue:
        return ()
    felt = _replay(inner, dialogue[:-1])
    heard = [user for user, _ in dialogue]
    earlier = [reply for _, reply in dialogue[:-1]]
    reading = read_reply(dialogue[-1][1], heard=heard, earlier=earlier)
    return (*felt, take(felt[-1].after if felt else inner, reading))


def _progress(inner: Inner, reading: Reading) -> tuple[Levels, set[int]]:
    """Progress levels per axis, and the axes that were served before they were open."""
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
    """Regress levels per axis: harms of the reply itself, and help at the wrong time."""
    first = inner.order[0]
    levels = [0, 0, 0]

    def hurt(axis: int, level: int) -> None:
        levels[axis] = min(levels[axis], level)

    for axis in misplaced:
        hurt(axis, -1)
        hurt(first, -1)
    if stale >= PATIENCE:
        hurt(inner.focus, -1)  # What is open and not helped gets worse: comfort alone does not carry on.
    harm_levels: dict[Harm, Levels] = {
        Harm.DISMISS: (0, -2, 0),
        Harm.PREACH: (0, -1, -1),
        Harm.HOLLOW: (-1, -1, -1),
        Harm.OVERLOAD: (-1, -1, 0),
        # As bad as the emptiest reply that is said to the end: cheaper, and never ending would pay.
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
    """Say in one word how the person answers."""
    if Harm.DISMISS in reading.harms or Harm.SLIP in reading.harms:
        return "hurt"
    if misplaced or Harm.PREACH in reading.harms or Harm.OVERLOAD in reading.harms:
        return "pushed"
    if any(regress):
        return "unheard"
    if 2 in progress:
        return "moved"
    return "eased" if any(progress) else "stale"
