"""Read one place with stored results; sources.py merges them by model."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mica_ray.benchmarks.answers import Answer, read_answers
from mica_ray.benchmarks.question import BenchmarkDataError
from mica_ray.benchmarks.scores import question_means
from mica_ray.config.references import ConfigError
from mica_ray.evaluation.rescore import score_cases
from mica_ray.evaluation.rescored_files import recorded_reasons
from mica_ray.evaluation.tables import CONTAMINATED
from mica_ray.files import JsonFileError, read_json_lines
from mica_ray.recordings.dialogue_files import read_state_paths
from mica_ray.recordings.recorded_dialogue import RecordedDialogue, RecordingError, by_model
from mica_ray.reporting.models.columns import SEED
from mica_ray.reporting.models.comparability import answer_reasons, judge_reasons
from mica_ray.reporting.models.results import (
    EMOBENCH,
    EMPA,
    EQBENCH2,
    EQBENCH3,
    INDEX_GROUPS,
    BenchmarkResult,
)
from mica_ray.runs.folder import RunFolder, read_object
from mica_ray.runs.stored_run import read_rows

if TYPE_CHECKING:
    import pandas as pd

_PERCENT = 100.0


@dataclass(frozen=True, slots=True)
class StoredModel:
    """What one place stores about one model."""

    name: str
    results: tuple[BenchmarkResult, ...] = ()
    curve: Mapping[int, float] | None = None
    """EPM-Q of a training run by step; None if the place is no training run."""


def read_folder(folder: Path) -> tuple[StoredModel, ...] | None:
    """Read a folder that training or an evaluation wrote; None if it is neither.

    Raises:
        ConfigError: a file of the folder cannot be read.
    """
    if RunFolder(folder).config_file.is_file():
        return (_read_run(RunFolder(folder)),)
    if (folder / "dialogues.jsonl").is_file():
        return _read_cases(folder)
    if not (folder / "settings.json").is_file():
        return None
    settings = read_object(folder / "settings.json")
    benchmark = str(settings.get("benchmark"))
    if benchmark == EQBENCH3:
        return (_read_judged(folder, settings),)
    return (_read_answers(folder, settings),) if benchmark in _QUESTIONS else None


def read_recordings(path: Path) -> tuple[StoredModel, ...]:
    """Read a file of recorded dialogues, one result per model.

    Raises:
        ConfigError: the file cannot be read, or its dialogues have no state path.
    """
    return _empa_models(path)


def _read_run(run: RunFolder) -> StoredModel:
    """Read the evaluation after training, and EPM-Q by step; an unfinished run has no result."""
    config = read_object(run.config_file)
    rows = read_rows(run.metrics)
    curve = {
        row["step"]: row["eval_epm_q"]
        for row in rows
        if _is_number(row.get("step")) and _is_number(row.get("eval_epm_q"))
    }
    dialogues, results = run.evaluation_dialogues("after"), ()
    if run.summary.is_file() and dialogues.is_file():
        models = _empa_models(dialogues, is_contaminated=bool(config.get("contaminated")))
        results = tuple(result for model in models for result in model.results)
    return StoredModel(run.path.resolve().name, results, curve)


def _read_cases(folder: Path) -> tuple[StoredModel, ...]:
    """Read the folder of `mica evaluate empa`; failed.jsonl has the cases that failed in its last call."""
    failed = folder / "failed.jsonl"
    try:
        num_failed = len(read_json_lines(failed, is_growing=True))
    except JsonFileError as error:
        raise ConfigError(str(error)) from error
    score = read_object(folder / "score.json") if (folder / "score.json").is_file() else {}
    contaminated = any(isinstance(item, dict) and item.get("contaminated") for item in score.values())
    first, *others = _empa_models(folder / "dialogues.jsonl", is_contaminated=contaminated)
    (result,) = first.results
    lost = {
        "num_answers": result.num_answers + num_failed,
        "num_failed": result.num_failed + num_failed,
    }
    return (replace(first, results=(replace(result, **lost),)), *others)


def _empa_models(path: Path, *, is_contaminated: bool = False) -> tuple[StoredModel, ...]:
    """Score the dialogues of a file, one result per model.

    Raises:
        ConfigError: the file cannot be read, or has no state paths.
    """
    try:
        dialogues = read_state_paths(path)
    except RecordingError as error:
        raise ConfigError(str(error)) from error
    if any(dialogue.emotions is not None for dialogue in dialogues):
        raise ConfigError(
            f"{path} has SAGE's emotion values, which have no EPM-Q. Use `mica evaluate rescore`."
        )
    return tuple(
        StoredModel(model, (_empa_result(path, members, is_contaminated=is_contaminated),))
        for model, members in by_model(dialogues).items()
    )


def _empa_result(
    path: Path, dialogues: Sequence[RecordedDialogue], *, is_contaminated: bool
) -> BenchmarkResult:
    score = score_cases(dialogues, seed=SEED)
    cases = score.cases
    columns = {
        "epm_q": cases["epm_q"],
        "passed": cases["passed"] / cases["dialogues"],
        **{name: cases[list(indices)].mean(axis=1) for name, indices in INDEX_GROUPS.items()},
    }
    return BenchmarkResult(
        EMPA,
        path,
        {part: _by_case(values) for part, values in columns.items()},
        num_answers=score.num_dialogues + score.num_failed_dialogues,
        num_unreadable=score.num_failed_judgements,
        num_failed=score.num_failed_dialogues,
        passes=score.passed,
        num_scored=score.num_dialogues,
        drawable=tuple(dialogue for dialogue in dialogues if dialogue.is_usable),
        reasons=(
            *recorded_reasons(path, dialogues, score),
            *([CONTAMINATED] if is_contaminated else []),
        ),
    )


def _by_case(values: pd.Series) -> dict[str, float]:
    return {str(case): float(value) for case, value in values.items() if math.isfinite(value)}


def _read_answers(folder: Path, settings: Mapping[str, Any]) -> StoredModel:
    """Read a folder of answers that are scored without a judge; settings.json names benchmark and policy."""
    benchmark = str(settings["benchmark"])
    answers = _answers(folder)
    scores = _QUESTIONS[benchmark](question_means(answers))
    result = BenchmarkResult(benchmark, folder, scores, len(answers), _num_unscored(answers))
    result = replace(result, reasons=answer_reasons(result))
    return StoredModel(_model(settings), (result,))


def _read_judged(folder: Path, settings: Mapping[str, Any]) -> StoredModel:
    """Read a folder of EQ-Bench 3: the policy's replies, with the judgements of a judge in a folder below.

    Raises:
        ConfigError: there is no judge, or several.
    """
    judges = [folder] if "judge" in settings else sorted(folder.glob("judge-*"))
    if len(judges) != 1:
        names = ", ".join(path.name for path in judges) or "none"
        raise ConfigError(
            f"{folder}: the table needs the judgements of one judge, found {names}. "
            "Name the folder of one judge, such as RUN/judge-NAME."
        )
    played = judges[0].parent
    judgements = _answers(judges[0])
    # A conversation ends with its first reply that cannot be used; it is not judged.
    num_failed = sum(reply.problem is not None for reply in _answers(played))
    scores = _one_part(question_means(judgements))
    judge = str(read_object(judges[0] / "settings.json").get("judge"))
    result = BenchmarkResult(
        EQBENCH3, judges[0], scores, len(judgements) + num_failed, _num_unscored(judgements), num_failed
    )
    result = replace(result, reasons=(*answer_reasons(result), *judge_reasons(judge)))
    return StoredModel(_model(read_object(played / "settings.json")), (result,))


def _answers(folder: Path) -> tuple[Answer, ...]:
    try:
        return tuple(read_answers(folder / "answers.jsonl").values())
    except BenchmarkDataError as error:
        raise ConfigError(str(error)) from error


def _num_unscored(answers: Sequence[Answer]) -> int:
    return sum(answer.scores is None or "score" not in answer.scores for answer in answers)


def _model(settings: Mapping[str, Any]) -> str:
    return str(settings.get("model") or "")


def _emobench_parts(means: Mapping[str, float]) -> dict[str, dict[str, float]]:
    """Return percent right by part; a question's id starts with its part, such as EA-en-12."""
    parts: dict[str, dict[str, float]] = {}
    for question, score in means.items():
        parts.setdefault(question.partition("-")[0], {})[question] = _PERCENT * score
    return parts


def _one_part(means: Mapping[str, float]) -> dict[str, dict[str, float]]:
    return {"score": dict(means)}


_QUESTIONS = {EMOBENCH: _emobench_parts, EQBENCH2: _one_part}
"""Benchmarks without a judge, and how their questions form the parts of the table."""


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and bool(np.isfinite(value))
