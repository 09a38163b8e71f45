"""How far simulated users are from people, in units of the distance between two halves of the people.

recordings/user_messages.py reads the messages; simulators/measures.py measures each of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import wasserstein_distance

from mica_ray.recordings.user_messages import UserMessages
from mica_ray.seeding import derive_seed
from mica_ray.simulators.measures import MEASURES, Measure, measured
from mica_ray.simulators.words import Language, language_of
from mica_ray.statistics import Interval, bootstrap_mean

REPEATS = 400
"""Random halves of the people. The Monte-Carlo error of a mean distance is then below 3 % of it."""
LEAST_PEOPLE, LEAST_SIMULATED = 8, 4
"""Dialogues with a defined value below which a measure is not compared: draws would be single dialogues."""
_LEAST_AT_TURN = 5
"""Dialogues at a turn below which it has no mean."""


class ComparisonError(ValueError):
    """Sets of messages that cannot be compared; the message names the set and the remedy."""


@dataclass(frozen=True, slots=True, eq=False)
class MeasuredUsers:
    """The measured messages of one set of users, all in one language."""

    source: UserMessages
    language: Language
    values: tuple[np.ndarray, ...]
    """[M, K] for each dialogue in the language (measures.py)."""
    num_other_language: int
    """Dialogues left out because they are in another language."""

    @property
    def name(self) -> str:
        """Name of the file or folder."""
        return self.source.name

    @property
    def median_length(self) -> int:
        """Number of messages that half of the dialogues reach."""
        return int(np.median([len(rows) for rows in self.values]))


@dataclass(frozen=True, slots=True)
class MeasureGap:
    """The distance of one measure between people and simulated users. NaN where it is not defined."""

    measure: Measure
    people: Interval
    """Mean over dialogues, bootstrap over dialogues."""
    simulated: Interval
    distance: float
    """Wasserstein distance W_1 between simulated users and a half of the people, unit of the measure."""
    yardstick: float
    """W_1 between two halves of the people, as many dialogues each."""
    ratio: Interval
    """distance / yardstick; the bounds hold 95 % of the draws. 1: as far from people as other people."""
    people_ratio: Interval
    """The same for the two halves of the people: estimate 1."""
    num_people: int
    """Dialogues with a defined value."""
    num_simulated: int
    num_drawn: int
    """Dialogues in each draw; 0 if there are too few."""

    @property
    def differs(self) -> bool:
        """Whether the distance is beyond 97.5 % of those between two halves of the people."""
        return self.ratio.estimate > self.people_ratio.high


@dataclass(frozen=True, slots=True, eq=False)
class SimulatorGap:
    """The comparison of one set of simulated users with the people."""

    users: MeasuredUsers
    gaps: tuple[MeasureGap, ...]
    """In the order of MEASURES."""
    is_comparable: bool
    """Whether both are in one language."""


@dataclass(frozen=True, slots=True, eq=False)
class SimulatorQuality:
    """The people, and every set of simulated users compared with them."""

    people: MeasuredUsers
    simulated: tuple[SimulatorGap, ...]
    num_turns: int
    """Messages of each dialogue that are compared, the first ones."""


def measure_users(source: UserMessages) -> MeasuredUsers:
    """Measure all messages in the language of most dialogues.

    Raises:
        ComparisonError: most dialogues are neither in English nor in Chinese.
    """
    languages = [language_of(dialogue.messages) for dialogue in source.dialogues]
    counts = {name: languages.count(name) for name in ("en", "zh", None)}
    language = max(("en", "zh"), key=lambda name: counts[name])
    if counts[language] < counts[None] or not counts[language]:
        raise ComparisonError(
            f"{source.name}: {counts[None]} of {len(languages)} dialogues are neither in English nor in "
            "Chinese, the languages whose words are known. Name other files."
        )
    values = tuple(
        measured(dialogue.messages, language)
        for dialogue, spoken in zip(source.dialogues, languages, strict=True)
        if spoken == language
    )
    return MeasuredUsers(source, language, values, len(languages) - len(values))


def compare_users(
    people: UserMessages,
    simulated: Sequence[UserMessages],
    *,
    across_languages: bool = False,
    num_turns: int | None = None,
    seed: int = 0,
    repeats: int = REPEATS,
) -> SimulatorQuality:
    """Compare sets of simulated users with people.

    A dialogue has weight 1 in every distribution, however long it is. For each measure, `repeats` times:
    split the people's dialogues into halves A and B at random and draw n dialogues from A, from B and from
    the simulated users, n = min(half of the people, simulated users).

        distance = mean W_1(A, simulated)      yardstick = mean W_1(A, B)      ratio = distance / yardstick

    Equal n make the ratio of a perfect simulator 1, however few dialogues there are.

    Args:
        people: recorded people.
        simulated: sets of simulated users.
        across_languages: whether to compare sets in different languages, whose values are not comparable.
        num_turns: messages of each dialogue to compare; None for the smallest median length of the sets:
            later messages of one set have no counterpart.
        seed: of the draws.
        repeats: number of draws.

    Raises:
        ComparisonError: the languages differ, there are too few dialogues, or two sets have one name.
    """
    human = measure_users(people)
    others = [measure_users(one) for one in simulated]
    _check_sets(human, others, across_languages=across_languages)
    turns = num_turns or max(1, min(one.median_length for one in (human, *others)))
    gaps: list[SimulatorGap] = []
    for other in others:
        measures = tuple(
            _gap(
                number, human, other, turns, seed=derive_seed(seed, "simulator", measure.key), repeats=repeats
            )
            for number, measure in enumerate(MEASURES)
        )
        gaps.append(SimulatorGap(other, measures, is_comparable=other.language == human.language))
    return SimulatorQuality(human, tuple(gaps), turns)


def turn_means(users: MeasuredUsers, measure: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the mean of a measure at each message index, and half the width of its 95 % interval.

    1.96 standard errors over dialogues; NaN at an index that fewer than five dialogues have.

    Args:
        users: the measured users.
        measure: number of the measure in MEASURES.

    Returns:
        [T], [T], in the unit of the measure, T the longest dialogue.
    """
    longest = max(len(rows) for rows in users.values)
    table = np.full((len(users.values), longest), np.nan)
    for row, rows in enumerate(users.values):
        table[row, : len(rows)] = rows[:, measure]
    means, halves = np.full(longest, np.nan), np.full(longest, np.nan)
    for turn in range(longest):
        values = table[:, turn][np.isfinite(table[:, turn])]
        if len(values) >= _LEAST_AT_TURN:
            means[turn] = values.mean()
            halves[turn] = 1.96 * values.std(ddof=1) / np.sqrt(len(values))
    return means, halves


def _check_sets(human: MeasuredUsers, others: Sequence[MeasuredUsers], *, across_languages: bool) -> None:
    if len(human.values) < LEAST_PEOPLE:
        raise ComparisonError(
            f"{human.name}: {len(human.values)} dialogues with people; at least {LEAST_PEOPLE} are needed."
        )
    names = [other.name for other in others]
    for other in others:
        if names.count(other.name) > 1:
            raise ComparisonError(f"Two simulated sets have the name {other.name}. Rename one of them.")
        if len(other.values) < LEAST_SIMULATED:
            raise ComparisonError(
                f"{other.name}: {len(other.values)} simulated dialogues; at least {LEAST_SIMULATED} are "
                "needed."
            )
        if other.language != human.language and not across_languages:
            raise ComparisonError(
                f"{human.name} is in language {human.language} and {other.name} in {other.language}: word "
                "counts of different languages are not comparable. Name dialogues in one language, or add "
                "--across-languages to see them side by side."
            )


def _gap(
    number: int, people: MeasuredUsers, simulated: MeasuredUsers, turns: int, *, seed: int, repeats: int
) -> MeasureGap:
    human, other = (_defined(users.values, number, turns) for users in (people, simulated))
    num_drawn = min(len(human) // 2, len(other))
    is_defined = len(human) >= LEAST_PEOPLE and len(other) >= LEAST_SIMULATED
    apart, within = _draws(human, other, num_drawn, seed=seed, repeats=repeats if is_defined else 0)
    scale = float(within.mean()) if is_defined else np.nan
    return MeasureGap(
        measure=MEASURES[number],
        people=bootstrap_mean([float(values.mean()) for values in human], seed=seed),
        simulated=bootstrap_mean([float(values.mean()) for values in other], seed=seed),
        distance=float(apart.mean()) if is_defined else np.nan,
        yardstick=scale,
        ratio=_relative(apart, scale),
        people_ratio=_relative(within, scale),
        num_people=len(human),
        num_simulated=len(other),
        num_drawn=num_drawn if is_defined else 0,
    )


def _defined(values: Sequence[np.ndarray], number: int, turns: int) -> list[np.ndarray]:
    """Return the defined values of one measure in the first messages, for each dialogue that has any."""
    columns = [rows[:turns, number] for rows in values]
    return [column[np.isfinite(column)] for column in columns if np.isfinite(column).any()]


def _draws(
    human: Sequence[np.ndarray], other: Sequence[np.ndarray], num_drawn: int, *, seed: int, repeats: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return W_1(A, simulated) and W_1(A, B) of every repeat."""
    generator = np.random.default_rng(seed)
    apart, within = np.empty(repeats), np.empty(repeats)
    for repeat in range(repeats):
        order = generator.permutation(len(human))
        one = _pooled([human[index] for index in order[:num_drawn]])
        two = _pooled([human[index] for index in order[num_drawn : 2 * num_drawn]])
        drawn = generator.permutation(len(other))[:num_drawn]
        three = _pooled([other[index] for index in drawn])
        apart[repeat] = wasserstein_distance(one[0], three[0], one[1], three[1])
        within[repeat] = wasserstein_distance(one[0], two[0], one[1], two[1])
    return apart, within


def _pooled(dialogues: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Return all values, and weights that sum to 1 for each dialogue."""
    weights = np.concatenate([np.full(len(values), 1 / len(values)) for values in dialogues])
    return np.concatenate(dialogues), weights


def _relative(distances: np.ndarray, scale: float) -> Interval:
    """Return the mean distance over the scale, with the range of 95 % of the draws.

    Without any variation between people, any distance is infinitely many times theirs.
    """
    if not distances.size:
        return Interval(np.nan, np.nan, np.nan)
    if scale == 0:
        far = float("inf") if distances.any() else 1.0
        return Interval(far, far, far)
    low, high = np.quantile(distances, [0.025, 0.975]) / scale
    return Interval(float(distances.mean() / scale), float(low), float(high))
