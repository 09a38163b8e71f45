"""Scores of recorded dialogues as tables for the terminal and as JSON for programs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

from mica_ray.evaluation.emotion_score import EmotionScore
from mica_ray.evaluation.endings import EndingCheck
from mica_ray.evaluation.epm_q import INDEX_NAMES
from mica_ray.evaluation.report import show_interval
from mica_ray.evaluation.rescore import ModelScore, Stratum
from mica_ray.evaluation.rescored_files import Rescored

if TYPE_CHECKING:
    from rich.table import Table

INDEX_TITLES = ("RDI", "Etot", "Snet", "Rho", "Sproj", "Tau", "Rpos", "Align", "Pen")
"""What the benchmark calls the nine indices, in the order of INDEX_NAMES."""


def rescore_tables(results: Sequence[Rescored]) -> Iterator[Table]:
    """Lay out the tables that the results ask for; one row per model."""
    paths = {item.model: item.score for item in results if isinstance(item.score, ModelScore)}
    emotions = {item.model: item.score for item in results if isinstance(item.score, EmotionScore)}
    if paths:
        yield _score_table(paths)
        yield _index_table(paths)
        yield _strata_table(paths)
    if emotions:
        yield _emotion_table(emotions)
    endings = {item.model: item.endings for item in results if item.endings is not None}
    if endings:
        yield _endings_table(endings)


def rescore_record(results: Sequence[Rescored]) -> dict[str, dict[str, object]]:
    """Give every model's numbers as plain JSON values, by model."""
    return {
        item.model: {
            **_score_record(item.score),
            "file": str(item.path),
            "format": item.form,
            **({} if item.endings is None else {"endings": _endings_record(item.endings)}),
        }
        for item in results
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
        "dialogues": sum(case.dialogues for case in score.cases),
        "failed_dialogues": score.num_failed_dialogues,
        "failed_judgements": score.num_failed_judgements,
        "epm_q_judged_only": score.epm_q_judged_only,
        "pass_fraction": asdict(score.pass_fraction),
        "intervals": {
            "epm_q": asdict(score.epm_q),
            "alignment": asdict(score.alignment),
            **{name: asdict(interval) for name, interval in score.indices.items()},
        },
        "by_axis": {name: asdict(stratum) for name, stratum in score.by_axis.items()},
        "by_category": {name: asdict(stratum) for name, stratum in score.by_category.items()},
        "by_difficulty": {name: asdict(stratum) for name, stratum in score.by_difficulty.items()},
        "by_case": {case.case: asdict(case) for case in score.cases},
        "notes": list(score.notes),
    }


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


def _table(title: str, texts: Sequence[str], numbers: Sequence[str], caption: str = "") -> Table:
    """Make a table with its text columns first; 80 columns hold a model's name and what stands beside it."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(title=title, caption=caption or None, box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for column in texts:
        table.add_column(column, overflow="fold")
    for column in numbers:
        table.add_column(column, justify="right", no_wrap=True)
    return table


def _score_table(scores: Mapping[str, ModelScore]) -> Table:
    failed = sum(score.num_failed_dialogues for score in scores.values())
    judgements = sum(score.num_failed_judgements for score in scores.values())
    lost = f"; {failed} dialogues and {judgements} judgements failed" if failed or judgements else ""
    table = _table(
        "Recorded dialogues",
        ("model",),
        ("EPM-Q", "passed", "cases", "alignment", "C", "A", "P"),
        f"95 % bootstrap intervals over cases; alignment: mean cosine of a turn's move with the way out;\n"
        f"C, A, P: passed of the dialogues with that dominant axis{lost}",
    )
    for model, score in scores.items():
        dialogues = sum(case.dialogues for case in score.cases)
        table.add_row(
            model,
            show_interval(score.epm_q),
            str(score.passed) if dialogues == len(score.cases) else f"{score.passed}/{dialogues}",
            str(len(score.cases)),
            f"{score.alignment.estimate:.2f}",
            *(_passed(score.by_axis.get(axis)) for axis in ("C", "A", "P")),
        )
    return table


def _passed(stratum: Stratum | None) -> str:
    return "-" if stratum is None else f"{stratum.passed}/{stratum.dialogues}"


def _index_table(scores: Mapping[str, ModelScore]) -> Table:
    table = _table("Indices", ("model",), INDEX_TITLES, "outcome, efficiency, stability: three each")
    for model, score in scores.items():
        table.add_row(model, *(f"{score.indices[name].estimate:.1f}" for name in INDEX_NAMES))
    return table


def _strata_table(scores: Mapping[str, ModelScore]) -> Table:
    table = _table("Strata", ("model", "stratum"), ("EPM-Q", "passed", "alignment"))
    for model, score in scores.items():
        strata = {
            **{f"axis {name}": stratum for name, stratum in score.by_axis.items()},
            **score.by_category,
            **score.by_difficulty,
        }
        for number, (name, stratum) in enumerate(strata.items()):
            table.add_row(
                "" if number else model,
                name,
                show_interval(stratum.epm_q),
                _passed(stratum),
                show_interval(stratum.alignment),
            )
    return table


def _emotion_table(scores: Mapping[str, EmotionScore]) -> Table:
    table = _table(
        "Recorded emotion",
        ("model",),
        ("final emotion", "at 100", "below 10", "of", "per turn", "AUC"),
        "95 % bootstrap intervals over dialogues; AUC: how well the emotion before a turn, not a word\n"
        "read, tells whether it rises: what a learned judge must beat",
    )
    for model, score in scores.items():
        table.add_row(
            model,
            show_interval(score.final_emotion),
            str(score.successes),
            str(score.failures),
            str(score.num_dialogues),
            show_interval(score.change_per_turn),
            f"{score.rise_auc:.3f}",
        )
    return table


def _endings_table(checks: Mapping[str, EndingCheck]) -> Table:
    total = sum(check.checked for check in checks.values())
    differ = sum(len(check.differences) for check in checks.values())
    # As wide as its title, when there is nothing to list.
    table = _table(
        f"Endings by our rules (a = 0.1): {total - differ} of {total} as recorded",
        ("model", "case", "recorded", "replayed", "cause"),
        (),
    )
    table.min_width = 76
    for model, check in checks.items():
        for item in check.differences:
            recorded, replayed = (
                f"{kind} at {turn}"
                for kind, turn in (
                    (item.recorded, item.recorded_turn),
                    (item.replayed, item.replayed_turn),
                )
            )
            table.add_row(model, item.case, recorded, replayed, item.cause)
    return table
