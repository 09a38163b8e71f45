"""EPM-Q of recorded dialogues, without playing any: per case, per model and per stratum.

rescored_files.py reads the files; rescore_tables.py shows the scores.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from mica_ray.dialogue.progress import ProgressRules, alignment, dynamic_alignment, judge_stop
from mica_ray.evaluation.epm_q import INDEX_NAMES, score_dialogue
from mica_ray.recordings.recorded_dialogue import RecordedDialogue
from mica_ray.statistics import Interval, bootstrap_mean, wilson
from mica_ray.types import Stop

if TYPE_CHECKING:
    import pandas as pd

RELEASED_RULES = ProgressRules(tolerance=0.1)
"""The rules of the published runs: a = 0.1, although the released code has 0.05."""

STRATA = ("category", "difficulty", "dominant_axis")
MEANS = ("epm_q", *INDEX_NAMES, "cosine", "cosine_dynamic", "num_turns", "epm_q_judged_only")
SUMS = ("dialogues", "passed", "num_failed_judgements")


@dataclass(frozen=True, slots=True)
class Stratum:
    """The cases with the same dominant axis, category or difficulty."""

    cases: int
    dialogues: int
    passed: int
    pass_fraction: Interval
    """Over dialogues, Wilson."""
    epm_q: Interval
    """Bootstrap over cases."""
    alignment: Interval


@dataclass(frozen=True, slots=True, eq=False)
class ModelScore:
    """The scores of one model's recorded dialogues. Intervals are 95 %, bootstrap over cases unless noted."""

    epm_q: Interval
    indices: Mapping[str, Interval]
    alignment: Interval
    """Mean cosine between a turn's move and the direction from P_0 to the origin, -1 to 1."""
    alignment_dynamic: Interval
    """As `alignment`, with the direction from the state before the turn."""
    pass_fraction: Interval
    """Over dialogues, Wilson."""
    cases: pd.DataFrame
    """One row per case, indexed by case: STRATA, the MEANS over its scored dialogues, and the SUMS. passed
    counts dialogues in which the user's needs were met; cosine and cosine_dynamic are the alignments over
    judged turns."""
    by_axis: Mapping[str, Stratum]
    by_category: Mapping[str, Stratum]
    by_difficulty: Mapping[str, Stratum]
    num_failed_dialogues: int
    """Dialogues left out of every number."""
    num_failed_judgements: int
    epm_q_judged_only: float
    """EPM-Q without the turns whose judgement failed."""
    notes: tuple[str, ...]
    """Irregularities in the records and how they were read."""

    @property
    def passed(self) -> int:
        """Dialogues that succeeded."""
        return _total(self.cases, "passed")

    @property
    def num_dialogues(self) -> int:
        """Dialogues that were scored."""
        return _total(self.cases, "dialogues")


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
    rows: list[dict[str, object]] = []
    for record in distinct:
        try:
            rows.append(_scores(record, notes))
        except ValueError as error:
            notes.append(f"{record.scenario}: left out: {error}")
    notes += _notes_of_unjudged_turns(distinct)
    cases = _case_means(rows)
    return ModelScore(
        epm_q=bootstrap_mean(_values(cases, "epm_q"), seed=seed),
        indices={name: bootstrap_mean(_values(cases, name), seed=seed) for name in INDEX_NAMES},
        alignment=bootstrap_mean(_values(cases, "cosine"), seed=seed),
        alignment_dynamic=bootstrap_mean(_values(cases, "cosine_dynamic"), seed=seed),
        pass_fraction=wilson(_total(cases, "passed"), _total(cases, "dialogues")),
        cases=cases,
        by_axis=_strata(cases, "dominant_axis", seed=seed),
        by_category=_strata(cases, "category", seed=seed),
        by_difficulty=_strata(cases, "difficulty", seed=seed),
        num_failed_dialogues=len(distinct) - len(rows),
        num_failed_judgements=sum(int((~record.judged).sum()) for record in distinct),
        epm_q_judged_only=_mean(_values(cases, "epm_q_judged_only")),
        notes=tuple(notes),
    )


def first_stop(states: np.ndarray, rules: ProgressRules) -> tuple[Stop | None, int]:
    """Apply stop rules along a state path: return why it ends (None if it does not) and at which turn."""
    for num_turns in range(1, len(states)):
        stop = judge_stop(states[: num_turns + 1], rules)
        if stop is not None:
            return stop, num_turns
    return None, len(states) - 1


def _scores(record: RecordedDialogue, notes: list[str]) -> dict[str, object]:
    """Return the row of one dialogue; an ending that is not recorded is replayed and noted."""
    score = score_dialogue(record)
    is_success = record.is_success
    if is_success is None:
        stop, _ = first_stop(record.states, RELEASED_RULES)
        ending = stop or "does not end"
        notes.append(f"{record.scenario}: no termination_reason; by our rules (a = 0.1): {ending}")
        is_success = stop is Stop.SUCCESS
    return {
        "case": record.scenario,
        **{name: getattr(record, name) for name in STRATA},
        "epm_q": score.score,
        **{name: getattr(score, name) for name in INDEX_NAMES},
        "cosine": float(alignment(record.states)[record.judged].mean()),
        "cosine_dynamic": float(dynamic_alignment(record.states)[record.judged].mean()),
        "num_turns": float(score.num_turns),
        "epm_q_judged_only": score_dialogue(record, judged_only=True).score,
        "dialogues": 1,
        "passed": int(is_success),
        "num_failed_judgements": score.num_failed,
    }


def _case_means(rows: Sequence[Mapping[str, object]]) -> pd.DataFrame:
    """Combine the rows of each case, in order of first appearance."""
    import pandas as pd

    scored = pd.DataFrame(rows, columns=pd.Index(["case", *STRATA, *MEANS, *SUMS]))
    return scored.groupby("case", sort=False).agg(
        dict.fromkeys(STRATA, "first") | dict.fromkeys(MEANS, _mean) | dict.fromkeys(SUMS, "sum")
    )


def _strata(cases: pd.DataFrame, column: str, *, seed: int) -> dict[str, Stratum]:
    named = cases.query(f"{column} != ''").groupby(column)
    return {str(name): _stratum(members, seed=seed) for name, members in named}


def _stratum(members: pd.DataFrame, *, seed: int) -> Stratum:
    passed, dialogues = _total(members, "passed"), _total(members, "dialogues")
    return Stratum(
        cases=len(members),
        dialogues=dialogues,
        passed=passed,
        pass_fraction=wilson(passed, dialogues),
        epm_q=bootstrap_mean(_values(members, "epm_q"), seed=seed),
        alignment=bootstrap_mean(_values(members, "cosine"), seed=seed),
    )


def _values(frame: pd.DataFrame, column: str) -> np.ndarray:
    return np.asarray(frame[column], dtype=np.float64)


def _total(frame: pd.DataFrame, column: str) -> int:
    return int(_values(frame, column).sum())


def _mean(values: pd.Series | np.ndarray) -> float:
    # Not the mean of a groupby: it sums with compensation, which changes the last digit.
    return float(np.mean(np.asarray(values, dtype=np.float64))) if len(values) else float("nan")


def _without_copies(records: Sequence[RecordedDialogue]) -> tuple[list[RecordedDialogue], list[str]]:
    """Drop records that repeat another record of the same case."""
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
