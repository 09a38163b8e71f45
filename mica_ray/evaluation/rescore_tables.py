"""Scores of recorded dialogues as tables for the terminal and as JSON. rescore.py computes them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from mica_ray.evaluation.emotion_score import EmotionScore
from mica_ray.evaluation.endings import EndingCheck
from mica_ray.evaluation.epm_q import INDEX_NAMES
from mica_ray.evaluation.rescore import STRATA, ModelScore, Stratum
from mica_ray.evaluation.rescored_files import Rescored
from mica_ray.evaluation.tables import format_interval, terminal_table
from mica_ray.types import AXES

if TYPE_CHECKING:
    import pandas as pd
    from rich.table import Table

INDEX_TITLES = ("RDI", "Etot", "Snet", "Rho", "Sproj", "Tau", "Rpos", "Align", "Pen")
"""The benchmark's names of the nine indices, in the order of INDEX_NAMES."""


def rescore_tables(scores: Sequence[Rescored]) -> Iterator[Table]:
    """Return the tables of all kinds of scores that occur, with one row per model."""
    paths = {item.model: item.score for item in scores if isinstance(item.score, ModelScore)}
    emotions = {item.model: item.score for item in scores if isinstance(item.score, EmotionScore)}
    if paths:
        yield _score_table(paths)
        yield _index_table(paths)
        yield _strata_table(paths)
    if emotions:
        yield _emotion_table(emotions)
    endings = {item.model: item.endings for item in scores if item.endings is not None}
    if endings:
        yield _endings_table(endings)


def rescore_record(scores: Sequence[Rescored]) -> dict[str, dict[str, object]]:
    """Return every model's numbers as plain JSON values, by model."""
    return {
        item.model: {
            **_score_record(item.score),
            "reasons_not_comparable": list(item.reasons),
            "file": str(item.path),
            "format": item.form,
            **({} if item.endings is None else {"endings": _endings_record(item.endings)}),
        }
        for item in scores
    }


def _score_record(score: ModelScore | EmotionScore) -> dict[str, object]:
    return _path_record(score) if isinstance(score, ModelScore) else _emotion_record(score)


def _path_record(score: ModelScore) -> dict[str, object]:
    return {
        "epm_q": score.epm_q.estimate,
        "passed": score.passed,
        "cases": len(score.cases),
        "indices": {name: interval.estimate for name, interval in score.indices.items()},
        "alignment": score.alignment.estimate,
        "alignment_dynamic": score.alignment_dynamic.estimate,
        "dialogues": score.num_dialogues,
        "failed_dialogues": score.num_failed_dialogues,
        "failed_judgements": score.num_failed_judgements,
        "epm_q_judged_only": score.epm_q_judged_only,
        "pass_fraction": asdict(score.pass_fraction),
        "intervals": {
            "epm_q": asdict(score.epm_q),
            "alignment": asdict(score.alignment),
            "alignment_dynamic": asdict(score.alignment_dynamic),
            **{name: asdict(interval) for name, interval in score.indices.items()},
        },
        "by_axis": {name: asdict(stratum) for name, stratum in score.by_axis.items()},
        "by_category": {name: asdict(stratum) for name, stratum in score.by_category.items()},
        "by_difficulty": {name: asdict(stratum) for name, stratum in score.by_difficulty.items()},
        "by_case": {row["case"]: row for row in _case_records(score.cases)},
        "notes": list(score.notes),
    }


def _case_records(cases: pd.DataFrame) -> list[dict[str, Any]]:
    rows = cases.reset_index().to_dict("records")
    return [
        {
            **{name: row[name] for name in ("case", *STRATA, "epm_q")},
            "indices": {name: row[name] for name in INDEX_NAMES},
            "alignment": row["cosine"],
            "alignment_dynamic": row["cosine_dynamic"],
            **{name: row[name] for name in ("dialogues", "passed", "num_turns", "num_failed_judgements")},
        }
        for row in rows
    ]


def _emotion_record(score: EmotionScore) -> dict[str, object]:
    return {
        "final_emotion": score.final_emotion.estimate,
        "passed": score.successes,
        "failures": score.failures,
        "cases": score.num_dialogues,
        "num_turns": score.num_turns,
        "change_per_turn": score.change_per_turn.estimate,
        "rise_auc_of_previous_emotion": score.rise_auc,
        "intervals": {
            name: asdict(getattr(score, name))
            for name in ("final_emotion", "success_fraction", "failure_fraction", "change_per_turn")
        },
        "by_task": {task: asdict(interval) for task, interval in score.by_task.items()},
        "notes": list(score.notes),
    }


def _endings_record(check: EndingCheck) -> dict[str, object]:
    return {
        "checked": check.checked,
        "agreeing_fraction": check.agreeing_fraction,
        "differences": [asdict(item) for item in check.differences],
    }


def _score_table(scores: Mapping[str, ModelScore]) -> Table:
    failed = sum(score.num_failed_dialogues for score in scores.values())
    judgements = sum(score.num_failed_judgements for score in scores.values())
    failures = f"; {failed} dialogues and {judgements} judgements failed" if failed or judgements else ""
    rows = [
        [
            model,
            format_interval(score.epm_q),
            _passed_text(score),
            str(len(score.cases)),
            f"{score.alignment.estimate:.2f} {score.alignment_dynamic.estimate:.2f}",
            *(_passed(score.by_axis.get(axis)) for axis in AXES),
        ]
        for model, score in scores.items()
    ]
    return terminal_table(
        "Recorded dialogues",
        ("model", "EPM-Q", "passed", "cases", "alignment", *AXES),
        rows,
        caption="95 % bootstrap intervals over cases; alignment: mean cosine between a turn's move and "
        "the direction to the origin, from P_0 and from the state before the turn; "
        f"C, A, P: passed, of the dialogues with that dominant axis{failures}",
    )


def _passed_text(score: ModelScore) -> str:
    one_each = score.num_dialogues == len(score.cases)
    return str(score.passed) if one_each else f"{score.passed}/{score.num_dialogues}"


def _passed(stratum: Stratum | None) -> str:
    return "-" if stratum is None else f"{stratum.passed}/{stratum.dialogues}"


def _index_table(scores: Mapping[str, ModelScore]) -> Table:
    rows = [
        [model, *(f"{score.indices[name].estimate:.1f}" for name in INDEX_NAMES)]
        for model, score in scores.items()
    ]
    caption = "three indices each of outcome, efficiency and stability"
    return terminal_table("Indices", ("model", *INDEX_TITLES), rows, caption=caption)


def _strata_table(scores: Mapping[str, ModelScore]) -> Table:
    rows: list[list[str]] = []
    for model, score in scores.items():
        by_axis = {f"axis {name}": stratum for name, stratum in score.by_axis.items()}
        strata = {**by_axis, **score.by_category, **score.by_difficulty}
        for number, (name, stratum) in enumerate(strata.items()):
            intervals = format_interval(stratum.epm_q), _passed(stratum), format_interval(stratum.alignment)
            rows.append(["" if number else model, name, *intervals])
    heads = ("model", "stratum", "EPM-Q", "passed", "alignment")
    return terminal_table("Strata", heads, rows, num_texts=2)


def _emotion_table(scores: Mapping[str, EmotionScore]) -> Table:
    rows = [
        [
            model,
            format_interval(score.final_emotion),
            str(score.successes),
            str(score.failures),
            str(score.num_dialogues),
            format_interval(score.change_per_turn),
            f"{score.rise_auc:.3f}",
        ]
        for model, score in scores.items()
    ]
    return terminal_table(
        "Recorded emotion",
        ("model", "final emotion", "at 100", "below 10", "of", "per turn", "AUC"),
        rows,
        caption="95 % bootstrap intervals over dialogues; AUC: how well the emotion before a turn alone "
        "predicts whether it rises, the baseline for a learned judge",
    )


def _endings_table(checks: Mapping[str, EndingCheck]) -> Table:
    checked = sum(check.checked for check in checks.values())
    differ = sum(len(check.differences) for check in checks.values())
    rows = [
        [
            model,
            item.case,
            f"{item.recorded} at {item.recorded_turn}",
            f"{item.replayed} at {item.replayed_turn}",
            item.cause,
        ]
        for model, check in checks.items()
        for item in check.differences
    ]
    title = f"Endings by our rules (a = 0.1): {checked - differ} of {checked} as recorded"
    table = terminal_table(title, ("model", "case", "recorded", "replayed", "cause"), rows, num_texts=5)
    # Also without any row, the table is as wide as its title.
    table.min_width = 76
    return table
