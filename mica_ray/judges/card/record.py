"""A card of one or more judges, and its JSON form."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np

from mica_ray.judges.agreement import Agreement, agreement_record
from mica_ray.judges.card.conclusion import Conclusion
from mica_ray.judges.card.findings import RECORDED, Findings, recorded_points
from mica_ray.judges.card.noise import Bootstrap, agreements, interval_record, intervals_record
from mica_ray.judges.card.presentations import CONDITIONS
from mica_ray.judges.card.turns import RecordedTurn
from mica_ray.types import AXES


@dataclass(frozen=True, slots=True)
class CardSettings:
    """What was asked."""

    source: str
    """Name of the file or run folder."""
    domain: str
    num_turns: int
    num_dialogues: int
    repeats: int
    temperature: float
    seed: int
    num_unknown_people: int
    """Turns whose simulated user has no card or story here: the judge saw an empty persona."""


@dataclass(frozen=True, slots=True)
class Card:
    """The reliability of one or more judges on the same recorded turns."""

    settings: CardSettings
    turns: tuple[RecordedTurn, ...]
    judges: tuple[Findings, ...]
    conclusions: tuple[Conclusion, ...]
    """In the order of the judges."""
    between: Mapping[str, Agreement] | None
    """Agreement of the first repeats of all judges and the recorded one, by axis and over all; None with one
    rater."""

    @property
    def raters(self) -> tuple[str, ...]:
        """The raters of `between`."""
        recorded = (RECORDED,) if np.isfinite(recorded_points(self.turns)).any() else ()
        return (*(judge.name for judge in self.judges), *recorded)


def agreement_between(
    judges: Sequence[Findings],
    turns: Sequence[RecordedTurn],
    bootstrap: Bootstrap,
    levels: Sequence[float],
) -> Mapping[str, Agreement] | None:
    """Return the agreement of all judges and the recorded one on single judgements; None with one rater."""
    recorded = recorded_points(turns)
    rows = {judge.name: judge.turns[:, 0] for judge in judges}
    if np.isfinite(recorded).any():
        rows[RECORDED] = recorded
    return agreements(np.stack([*rows.values()]), tuple(rows), bootstrap, levels) if len(rows) > 1 else None


def card_record(card: Card) -> dict[str, object]:
    """Return a card as JSON. A statistic that is not defined is NaN, which becomes null."""
    return {
        **asdict(card.settings),
        "judges": {
            found.name: _judge_record(found, conclusion)
            for found, conclusion in zip(card.judges, card.conclusions, strict=True)
        },
        "raters": list(card.raters),
        "between_judges": None if card.between is None else _agreements(card.between),
        "turns": [
            {
                "id": turn.id,
                "scenario": turn.scenario.id,
                "turn": turn.number,
                "dialogue_length": turn.num_turns,
                "recorded": turn.recorded.tolist(),
                "judged": {judge.name: judge.turns[row].tolist() for judge in card.judges},
            }
            for row, turn in enumerate(card.turns)
        ],
    }


def _judge_record(found: Findings, conclusion: Conclusion) -> dict[str, object]:
    counts, tally, seconds = found.counts, found.cost.total, found.cost.seconds
    optional = {"echo_points": found.echo_points, "late_shift": found.late_shift, "flips": found.sign_flips}
    scoped = {name: None if row is None else intervals_record(row) for name, row in optional.items()}
    return {
        "verdict": conclusion.verdict,
        "conclusion": conclusion.line,
        "checks": [
            {
                "name": check.name,
                "state": check.state,
                "limit": check.limit,
                "value": None if check.value is None else interval_record(check.value),
            }
            for check in conclusion.checks
        ],
        "noise_sd": found.noise.sd,
        "noise_covariance": found.noise.covariance.tolist(),
        "noise_degrees_of_freedom": found.noise.degrees,
        "invalid_fraction": interval_record(counts.invalid_fraction),
        "answers": asdict(counts),
        "self_agreement": _agreements(found.self_agreement),
        "sign_flips": scoped["flips"],
        "with_recorded": _agreements(found.with_recorded),
        "sensitivity": {
            condition: {
                "what": CONDITIONS[condition],
                "shift": intervals_record(one.shift),
                "agreement": _agreements(one.agreement),
            }
            for condition, one in found.sensitivity.items()
        },
        "drift": {
            place: {
                "slope": intervals_record(drift.judge),
                "slope_beyond_recorded": intervals_record(drift.beyond_recorded),
            }
            for place, drift in found.drift.items()
        },
        "bias": {
            trait: {"judge": interval_record(bias.judge), "recorded": interval_record(bias.recorded)}
            for trait, bias in found.bias.items()
        },
        "echo_points": scoped["echo_points"],
        "late_position_shift": scoped["late_shift"],
        "canaries": None if found.canaries is None else {k: list(v) for k, v in found.canaries.items()},
        "cost": {
            **asdict(tally),
            "seconds_per_judgement": _mean(seconds),
            "seconds_p95": float(np.quantile(seconds, 0.95)) if seconds else None,
        },
        "axes": list(AXES),
    }


def _agreements(found: Mapping[str, Agreement] | None) -> dict[str, object] | None:
    return None if found is None else {scope: agreement_record(one) for scope, one in found.items()}


def _mean(values: Sequence[float]) -> float | None:
    return float(np.mean(values)) if values else None
