"""Screen cards: keep those with which a strong policy succeeds (MICA keeps 727 of 927 training cards).

launch/benchmark.py plays the rounds; recordings/case_log.py keeps the dialogues.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Literal

from mica_ray.checks import at_least, within
from mica_ray.domains.empa.cards import EpmCard
from mica_ray.files import json_line
from mica_ray.recordings.case_log import CaseLog
from mica_ray.types import Scenario, Stop, Trajectory

Verdict = Literal["kept", "dropped", "undecided"]
"""undecided: dialogues that would decide have not been played, or failed."""
VERDICTS: tuple[Verdict, ...] = ("kept", "dropped", "undecided")

STRATA: Mapping[str, Callable[[EpmCard], str]] = {
    "category": lambda card: card.category,
    "dominant axis": lambda card: card.dominant_axis or "unknown",
    "empathy threshold": lambda card: card.text.threshold,
}


@dataclass(frozen=True, slots=True)
class ScreenRule:
    """How many dialogues of a card must succeed."""

    samples: int = 1
    """N, dialogues per card at most."""
    passes: int = 1
    """M, successes that keep a card."""
    unjudged_fraction: float = 0.0
    """Largest share of turns without a judgement in a dialogue that counts against its card."""

    def __post_init__(self) -> None:
        """Check that a card can be kept and dropped."""
        at_least(1, samples=self.samples, passes=self.passes)
        within(0, 1, unjudged_fraction=self.unjudged_fraction)
        if self.passes > self.samples:
            raise ValueError(f"passes must be <= samples ({self.samples}), got {self.passes}. Lower it.")

    def verdict(self, successes: Sequence[bool]) -> Verdict:
        """Judge a card by its finished dialogues, as soon as the missing ones cannot change the outcome.

        >>> rule = ScreenRule(samples=3, passes=2)
        >>> rule.verdict([True, True]), rule.verdict([False, False]), rule.verdict([True, False])
        ('kept', 'dropped', 'undecided')
        """
        passed = sum(successes)
        if passed >= self.passes:
            return "kept"
        num_missing = self.samples - len(successes)
        return "undecided" if passed + num_missing >= self.passes else "dropped"

    def evidence(self, trajectory: Trajectory) -> Trajectory:
        """Return a dialogue as evidence about its card.

        A dialogue without success counts as failed, and is played again, if more turns than allowed have no
        judgement: the user might have been reached with them. Turns in which the policy said nothing are not
        the judge's failures.
        """
        turns = [turn for turn in trajectory.turns if not turn.is_silent]
        num_unjudged = sum(not turn.judgement.is_valid for turn in turns)
        if trajectory.stop in (Stop.SUCCESS, Stop.FAILED):
            return trajectory
        if num_unjudged <= self.unjudged_fraction * len(turns):
            return trajectory
        last = next(turn.judgement.error for turn in reversed(turns) if not turn.judgement.is_valid)
        problem = f"{num_unjudged} of {len(turns)} turns have no judgement. The last failed: {last}"
        return replace(trajectory, stop=Stop.FAILED, error=problem)


@dataclass(slots=True)
class Screening:
    """The state of a screening: which cases to play next, and the verdicts so far."""

    scenarios: Sequence[Scenario]
    rule: ScreenRule
    log: CaseLog
    """Keeps the finished dialogues, those of earlier calls included."""
    _asked: set[tuple[str, int]] = field(default_factory=set[tuple[str, int]])

    def next_cases(self) -> list[tuple[Scenario, int]]:
        """Return the next round: for each undecided card the dialogues it needs at least to be kept.

        Every dialogue is played at most once per call of the command, so that a judge that is down ends it.
        """
        cases: list[tuple[Scenario, int]] = []
        for scenario in self.scenarios:
            if self.verdict(scenario.id) != "undecided":
                continue
            done = self._successes(scenario.id)
            open_samples = [
                sample
                for sample in range(self.rule.samples)
                if sample not in done and (scenario.id, sample) not in self._asked
            ]
            num_needed = self.rule.passes - sum(done.values())
            cases += [(scenario, sample) for sample in open_samples[:num_needed]]
        self._asked |= {(scenario.id, sample) for scenario, sample in cases}
        return cases

    def verdict(self, scenario: str) -> Verdict:
        """Return the verdict on one card, by id."""
        return self.rule.verdict(list(self._successes(scenario).values()))

    @property
    def verdicts(self) -> dict[str, Verdict]:
        """The verdict on every card, by id."""
        return {scenario.id: self.verdict(scenario.id) for scenario in self.scenarios}

    def counts(self, scenario: str) -> tuple[int, int]:
        """Return the successes and the finished dialogues of one card."""
        done = self._successes(scenario)
        return sum(done.values()), len(done)

    def _successes(self, scenario: str) -> dict[int, bool]:
        """Return whether each finished dialogue of a card succeeded, by sample."""
        endings = self.log.endings
        return {
            sample: endings[scenario, sample] == Stop.SUCCESS
            for sample in range(self.rule.samples)
            if (scenario, sample) in endings
        }


def count_by_stratum(
    cards: Sequence[EpmCard], verdicts: Mapping[str, Verdict]
) -> dict[str, dict[str, dict[Verdict, int]]]:
    """Count the verdicts by stratum and its values.

    Args:
        cards: the cards; those without a verdict are not counted.
        verdicts: by card id.
    """
    table: dict[str, dict[str, dict[Verdict, int]]] = {}
    for name, value_of in STRATA.items():
        counted = Counter((value_of(card), verdicts[card.id]) for card in cards if card.id in verdicts)
        values = sorted({value for value, _ in counted})
        table[name] = {value: {verdict: counted[value, verdict] for verdict in VERDICTS} for value in values}
    return table


def scenario_lines(scenarios: Sequence[Scenario]) -> bytes:
    """Return scenarios as the JSON lines that `scenarios_file` reads (domains/loader.py)."""
    return b"".join(json_line(asdict(scenario)) + b"\n" for scenario in scenarios)
