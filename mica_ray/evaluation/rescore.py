"""EPM-Q of recorded dialogues, whoever recorded them, without playing: per case, per model, per stratum.

The files are read in recorded_paths.py; the tables are laid out in rescore_report.py.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from mica_ray.dialogue.progress import ProgressRules, alignment, judge_stop
from mica_ray.evaluation.epm_q import INDEX_NAMES, EpmScore, score_dialogue
from mica_ray.recordings.recorded_dialogue import RecordedDialogue
from mica_ray.statistics import Interval, bootstrap_mean, wilson
from mica_ray.types import Stop

RELEASED_RULES = ProgressRules(tolerance=0.1)
"""Under which the published runs were played: a = 0.1, not the 0.05 of the code."""


@dataclass(frozen=True, slots=True)
class CaseScore:
    """One case: the mean over its scored dialogues."""

    case: str
    category: str
    difficulty: str
    dominant_axis: str
    epm_q: float
    indices: Mapping[str, float]
    alignment: float
    """Mean cosine between a turn's move and the way out, -1 to 1."""
    dialogues: int
    passed: int
    """Dialogues in which the user's needs were met."""
    num_turns: float
    num_failed_judgements: int


@dataclass(frozen=True, slots=True)
class Stratum:
    """The cases that share a dominant axis, a category or a difficulty."""

    cases: int
    dialogues: int
    passed: int
    pass_fraction: Interval
    """Of the dialogues, Wilson."""
    epm_q: Interval
    """Bootstrap over cases."""
    alignment: Interval


@dataclass(frozen=True, slots=True)
class ModelScore:
    """What one model's recorded dialogues came to. Intervals are 95 %, bootstrap over cases if not said."""

    epm_q: Interval
    indices: Mapping[str, Interval]
    alignment: Interval
    pass_fraction: Interval
    """Of the dialogues, Wilson."""
    cases: tuple[CaseScore, ...]
    by_axis: Mapping[str, Stratum]
    by_category: Mapping[str, Stratum]
    by_difficulty: Mapping[str, Stratum]
    num_failed_dialogues: int
    """Left out of every number."""
    num_failed_judgements: int
    epm_q_judged_only: float
    """EPM-Q with every turn left out whose judgement failed."""
    notes: tuple[str, ...]
    """What was odd in the records and how it was taken."""

    @property
    def passed(self) -> int:
        """Dialogues that succeeded."""
        return sum(case.passed for case in self.cases)


def score_cases(records: Sequence[RecordedDialogue], *, seed: int) -> ModelScore:
    """Score the recorded dialogues of one model.

    Turns without a judgement are treated as in `score_dialogue`; for published runs, the score without them
    is returned as well. Failed dialogues are left out. Equal records count once; several dialogues of a case
    are averaged first.

    Args:
        records: of one model and one file, in file order.
        seed: of the bootstrap.
    """
    distinct, copies = _without_copies(records)
    notes = [note for record in records for note in record.notes] + copies
    scored: dict[str, list[tuple[RecordedDialogue, EpmScore]]] = {}
    judged_only: dict[str, list[float]] = {}
    failed = 0
    for record in distinct:
        try:
            score = score_dialogue(record)
        except ValueError as error:
            failed += 1
            notes.append(f"{record.scenario}: left out: {error}")
            continue
        ended = record if record.is_success is not None else _with_replayed_ending(record, notes)
        scored.setdefault(record.scenario, []).append((ended, score))
        judged_only.setdefault(record.scenario, []).append(score_dialogue(record, judged_only=True).score)
    notes += _notes_of_unjudged_turns(distinct)
    cases = tuple(_case_score(members) for members in scored.values())
    return ModelScore(
        epm_q=bootstrap_mean([case.epm_q for case in cases], seed=seed),
        indices={
            name: bootstrap_mean([case.indices[name] for case in cases], seed=seed) for name in INDEX_NAMES
        },
        alignment=bootstrap_mean([case.alignment for case in cases], seed=seed),
        pass_fraction=wilson(sum(case.passed for case in cases), sum(case.dialogues for case in cases)),
        cases=cases,
        by_axis=_strata(cases, lambda case: case.dominant_axis, seed=seed),
        by_category=_strata(cases, lambda case: case.category, seed=seed),
        by_difficulty=_strata(cases, lambda case: case.difficulty, seed=seed),
        num_failed_dialogues=failed,
        num_failed_judgements=sum(int((~record.judged).sum()) for record in distinct),
        epm_q_judged_only=_mean([_mean(values) for values in judged_only.values()]),
        notes=tuple(notes),
    )


def first_stop(states: np.ndarray, rules: ProgressRules) -> tuple[Stop | None, int]:
    """Play a state path by our rules: why it ends and after how many turns; None when it would go on."""
    for num_turns in range(1, len(states)):
        stop = judge_stop(states[: num_turns + 1], rules)
        if stop is not None:
            return stop, num_turns
    return None, len(states) - 1


def _with_replayed_ending(record: RecordedDialogue, notes: list[str]) -> RecordedDialogue:
    stop, _ = first_stop(record.states, RELEASED_RULES)
    notes.append(f"{record.scenario}: no termination_reason: {stop or 'goes on'} by our rules, a = 0.1")
    return replace(record, is_success=stop is Stop.SUCCESS)


def _without_copies(records: Sequence[RecordedDialogue]) -> tuple[list[RecordedDialogue], list[str]]:
    """Drop records that say the same of the same case again."""
    first: dict[str, list[RecordedDialogue]] = {}
    kept: list[RecordedDialogue] = []
    notes: list[str] = []
    for record in records:
        earlier = first.setdefault(record.scenario, [])
        copy = next((other for other in earlier if other.line.fields == record.line.fields), None)
        if copy is not None:
            notes.append(
                f"{record.scenario}: line {record.line.number} repeats line {copy.line.number}: counted once"
            )
            continue
        earlier.append(record)
        kept.append(record)
    return kept, notes


def _notes_of_unjudged_turns(records: Sequence[RecordedDialogue]) -> list[str]:
    unjudged = [(record, turn + 1) for record in records for turn in np.flatnonzero(~record.judged)]
    if not unjudged:
        return []
    is_kept = records[0].form == "run"
    use = "kept as turns that move nothing, as the published score does" if is_kept else "left out"
    places = ", ".join(f"{record.scenario} turn {turn}" for record, turn in unjudged[:20])
    more = f" and {len(unjudged) - 20} more" if len(unjudged) > 20 else ""
    return [f"{len(unjudged)} judgements failed; their turns are {use}: {places}{more}"]


def _case_score(members: Sequence[tuple[RecordedDialogue, EpmScore]]) -> CaseScore:
    record = members[0][0]
    return CaseScore(
        case=record.scenario,
        category=record.category,
        difficulty=record.difficulty,
        dominant_axis=record.dominant_axis,
        epm_q=_mean([score.score for _, score in members]),
        indices={name: _mean([getattr(score, name) for _, score in members]) for name in INDEX_NAMES},
        alignment=_mean([float(alignment(member.states)[member.judged].mean()) for member, _ in members]),
        dialogues=len(members),
        passed=sum(bool(member.is_success) for member, _ in members),
        num_turns=_mean([float(score.num_turns) for _, score in members]),
        num_failed_judgements=sum(score.num_failed for _, score in members),
    )


def _strata(cases: Sequence[CaseScore], key: Callable[[CaseScore], str], *, seed: int) -> dict[str, Stratum]:
    groups: dict[str, list[CaseScore]] = {}
    for case in cases:
        if key(case):
            groups.setdefault(key(case), []).append(case)
    return {name: _stratum(members, seed=seed) for name, members in sorted(groups.items())}


def _stratum(members: Sequence[CaseScore], *, seed: int) -> Stratum:
    passed, dialogues = (sum(getattr(case, name) for case in members) for name in ("passed", "dialogues"))
    return Stratum(
        cases=len(members),
        dialogues=dialogues,
        passed=passed,
        pass_fraction=wilson(passed, dialogues),
        epm_q=bootstrap_mean([case.epm_q for case in members], seed=seed),
        alignment=bootstrap_mean([case.alignment for case in members], seed=seed),
    )


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values)) if values else float("nan")
