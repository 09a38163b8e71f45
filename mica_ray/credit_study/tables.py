"""A comparison of estimators as tables for the terminal and the page, and as JSON."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np

from mica_ray.credit_study.comparison import CreditComparison
from mica_ray.credit_study.measures import CreditMeasures
from mica_ray.credit_study.turn_statistics import BAND_NAMES, BandEarning, SpikeBound, band_earnings
from mica_ray.recordings.recorded_turns import Grouping, RecordedTurns

GROUP_TEXTS: dict[Grouping, str] = {
    "recorded": "A group is recorded by the run: the dialogues of one scenario in one step.",
    "case": (
        "A group is all dialogues of one case. If each model played a case once, siblings are dialogues of "
        "other models, not samples of one policy: read these advantages as a comparison of models."
    ),
    "model": "A group is all dialogues of one model.",
}


Columns = Mapping[str, Callable[[CreditMeasures], str]]
"""The cell of one estimator, by heading."""


@dataclass(frozen=True, slots=True)
class CreditTable:
    """A table of texts; the first column names the rows, the others are numbers."""

    title: str
    heads: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str = ""
    """Meaning of the columns."""


def credit_facts(stored: RecordedTurns, comparison: CreditComparison) -> tuple[str, ...]:
    """Return sentences on what was credited, how groups were formed and what was left out."""
    valid = stored.turns.valid
    played = sum(dialogue.num_turns for dialogue in stored.dialogues)
    num_groups, num_batches = len(np.unique(stored.turns.group)), len(np.unique(stored.batch))
    facts = [
        f"{len(stored.dialogues)} dialogues, {int(valid.sum())} judged turns, {num_groups} groups, "
        f"{_counted(num_batches, 'batch', 'batches')}: {', '.join(stored.models)}.",
        *(GROUP_TEXTS[grouping] for grouping in stored.groupings),
        f"Groups with equal sums of rewards: {comparison.constant_groups}; with only one dialogue: "
        f"{comparison.lone_groups}.",
    ]
    if unjudged := played - int(valid.sum()):
        facts.append(f"Turns without a judgement: {unjudged}. They are masked: no reward and no credit.")
    if stored.num_failed or stored.num_unjudged:
        facts.append(
            f"Left out: {_counted(stored.num_failed, 'failed dialogue', 'failed dialogues')}, "
            f"{stored.num_unjudged} without a judged turn."
        )
    return tuple(facts)


def credit_tables(stored: RecordedTurns, comparison: CreditComparison) -> tuple[CreditTable, ...]:
    """Return the tables in reading order."""
    return (
        _band_table(stored),
        _spike_table(comparison),
        _share_table(comparison, unit=stored.reply_lengths[1]),
        _correlation_table(comparison),
        _bound_table(comparison),
        turn_table(comparison),
    )


def credit_record(stored: RecordedTurns, comparison: CreditComparison) -> dict[str, object]:
    """Return all measures and every advantage as plain JSON values; NaN where not defined."""
    names, survivors = comparison.names, comparison.survivors
    bands = _bands(stored)
    return {
        "facts": list(credit_facts(stored, comparison)),
        "idr": {
            model: {name: asdict(band) for name, band in zip(BAND_NAMES, earned, strict=True)}
            for model, earned in bands.items()
        },
        "estimators": {
            name: asdict(measures) for name, measures in zip(names, comparison.measures, strict=True)
        },
        "reply_length_unit": stored.reply_lengths[1],
        "constant_groups": comparison.constant_groups,
        "lone_groups": comparison.lone_groups,
        "pearson": _matrix(comparison, comparison.pearson),
        "rank_correlation": _matrix(comparison, comparison.rank),
        "turn_bound": _bound_record(comparison.turn_bound),
        "group_bound": _bound_record(comparison.group_bound),
        "by_turn": {
            "dialogues": survivors.dialogues.tolist(),
            "groups": survivors.groups.tolist(),
            "lone_groups": survivors.lone.tolist(),
            "mean": dict(zip(names, comparison.mean_by_turn.tolist(), strict=True)),
            "rms": dict(zip(names, comparison.rms_by_turn.tolist(), strict=True)),
        },
        "dialogues": [_dialogue_record(stored, comparison, row) for row in range(len(stored.dialogues))],
    }


def _dialogue_record(stored: RecordedTurns, comparison: CreditComparison, row: int) -> dict[str, object]:
    dialogue = stored.dialogues[row]
    turns = slice(dialogue.num_turns)

    def judged(values: np.ndarray) -> list[float]:
        return np.where(dialogue.judged, values[turns], np.nan).tolist()

    return {
        "model": dialogue.model,
        "case": dialogue.scenario,
        "step": dialogue.step,
        "group": int(stored.turns.group[row]),
        "disagreement": float(comparison.disagreement[row]),
        "rewards": judged(stored.turns.rewards[row]),
        "advantages": {
            name: judged(credit[row])
            for name, credit in zip(comparison.names, comparison.advantages, strict=True)
        },
    }


def _bands(stored: RecordedTurns) -> dict[str, tuple[BandEarning, ...]]:
    return band_earnings(stored.idr, [dialogue.model for dialogue in stored.dialogues])


def _band_table(stored: RecordedTurns) -> CreditTable:
    rows = tuple(
        (model, *(f"{_signed(band.mean, 1)} ± {format_number(band.deviation, 1)}" for band in earned))
        for model, earned in _bands(stored).items()
    )
    note = "points of distance per turn, mean ± standard deviation over judged turns"
    return CreditTable("IDR by turn", ("model", *BAND_NAMES), rows, note)


def _measure_table(
    title: str,
    comparison: CreditComparison,
    columns: Columns,
    note: str,
) -> CreditTable:
    """Return one row per estimator, with a heading and a cell of every column."""
    rows = tuple(
        (name, *(cell(measures) for cell in columns.values()))
        for name, measures in zip(comparison.names, comparison.measures, strict=True)
    )
    return CreditTable(title, ("estimator", *columns), rows, note)


def _spike_table(comparison: CreditComparison) -> CreditTable:
    columns: Columns = {
        "rms": lambda one: format_number(one.rms),
        "largest": lambda one: format_number(one.largest),
        "top 1 %": lambda one: _percent(one.top_fraction),
        "group": lambda one: format_number(one.group_spike),
        "effective": lambda one: _percent(one.effective_fraction),
        "A = 0": lambda one: _percent(one.zero_fraction),
        "silent": lambda one: str(one.silent_groups),
    }
    note = (
        "rms of A; largest |A| in rms; share of the sum of |A| on the largest 1 %; the largest group's rms "
        "over the median group's (a jump of the gradient norm); effective sample size of |A|; turns and "
        "groups with A = 0"
    )
    return _measure_table("Size and spikes", comparison, columns, note)


def _share_table(comparison: CreditComparison, *, unit: str) -> CreditTable:
    columns: Columns = {
        "turn term": lambda one: _percent(one.turn_share),
        "group term": lambda one: _percent(one.group_share),
        "dialogue length": lambda one: _signed(one.dialogue_length_correlation),
        "reply length": lambda one: _signed(one.reply_length_correlation),
    }
    note = (
        "share of A from each of MICA's terms; correlation of a dialogue's mean A with its judged turns, and "
        f"of A with the reply's {unit}"
    )
    return _measure_table("Terms and length", comparison, columns, note)


def _correlation_table(comparison: CreditComparison) -> CreditTable:
    rows: list[tuple[str, ...]] = []
    for one, name in enumerate(comparison.names):
        cells = [
            ""
            if one == other
            else _signed((comparison.pearson if other > one else comparison.rank)[one, other])
            for other in range(len(comparison.names))
        ]
        rows.append((f"{one + 1} {name}", *cells))
    heads = ("estimator", *_numbers(comparison))
    note = "over judged turns: Pearson above the diagonal, Spearman's rank below"
    return CreditTable("Correlation of advantages", heads, tuple(rows), note)


def _bound_table(comparison: CreditComparison) -> CreditTable:
    rows = [
        (name, str(len(bound.sizes)), *_nearest_cells(bound))
        for name, bound in (
            ("turn term", comparison.turn_bound),
            ("group term", comparison.group_bound),
        )
        if len(bound.sizes)
    ]
    heads = ("term", "segments", "largest |z|", "its n", "its bound", "highest bound")
    note = (
        "Samuelson: |z| <= (n - 1) / sqrt(n), with the sample deviation of the n values compared: returns at "
        "the same turn, immediate rewards over the group"
    )
    return CreditTable("Bounds of z-scores", heads, tuple(rows), note)


def _nearest_cells(bound: SpikeBound) -> tuple[str, ...]:
    at = int(bound.largest.argmax())
    return (
        format_number(bound.largest[at]),
        str(bound.sizes[at]),
        format_number(bound.bounds[at]),
        format_number(float(bound.bounds.max())),
    )


def turn_table(comparison: CreditComparison) -> CreditTable:
    """Return the mean advantage and the survivors, one row per turn."""
    survivors = comparison.survivors
    rows = tuple(
        (
            str(turn + 1),
            str(survivors.dialogues[turn]),
            str(survivors.groups[turn]),
            str(survivors.lone[turn]),
            *(_signed(mean) for mean in comparison.mean_by_turn[:, turn]),
        )
        for turn in range(comparison.mean_by_turn.shape[1])
    )
    heads = ("turn", "n_t", "groups", "lone", *_numbers(comparison))
    names = ", ".join(f"{number + 1} {name}" for number, name in enumerate(comparison.names))
    note = (
        "n_t: dialogues judged at this turn; groups: their groups; lone: groups with only one of them; then "
        f"mean A in multiples of the estimator's rms: {names}"
    )
    return CreditTable("Mean advantage by turn", heads, rows, note)


def format_number(value: float, digits: int = 2) -> str:
    """Return a number as text, a dash for NaN."""
    return "-" if math.isnan(value) else f"{value:.{digits}f}"


def _signed(value: float, digits: int = 2) -> str:
    # Adding 0 turns a rounded -0 into 0.
    return "-" if math.isnan(value) else f"{round(float(value), digits) + 0.0:+.{digits}f}"


def _percent(value: float) -> str:
    return "-" if math.isnan(value) else f"{100 * value:.1f} %"


def _numbers(comparison: CreditComparison) -> list[str]:
    return [str(number + 1) for number in range(len(comparison.names))]


def _counted(count: int, one: str, many: str) -> str:
    return f"{count} {one if count == 1 else many}"


def _matrix(comparison: CreditComparison, values: np.ndarray) -> dict[str, dict[str, float]]:
    names: Sequence[str] = comparison.names
    return {
        name: dict(zip(names, row, strict=True)) for name, row in zip(names, values.tolist(), strict=True)
    }


def _bound_record(bound: SpikeBound) -> dict[str, object]:
    return {"n": bound.sizes.tolist(), "largest_z": bound.largest.tolist(), "bound": bound.bounds.tolist()}
