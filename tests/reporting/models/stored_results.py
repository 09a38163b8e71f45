"""Small stored results, with scores that can be computed by hand."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.evaluation.recorded_files import run_case, write


def answered(folder: Path, benchmark: str, model: str, scores: Mapping[str, Sequence[float | None]]) -> Path:
    """Write a folder of answers as `mica evaluate emobench` does.

    Args:
        folder: created.
        benchmark: its name.
        model: name of the policy.
        scores: one score per sample of each question; None for an unreadable answer.
    """
    folder.mkdir(parents=True)
    settings = {"benchmark": benchmark, "model": model, "sampling": {}}
    (folder / "settings.json").write_text(json.dumps(settings))
    lines = [
        {
            "question": question,
            "sample": sample,
            "text": "",
            "scores": None if score is None else {"score": score},
            "problem": "no choice" if score is None else None,
        }
        for question, samples in scores.items()
        for sample, score in enumerate(samples)
    ]
    write(folder / "answers.jsonl", lines)
    return folder


def recorded(path: Path, passed: Mapping[str, bool], *, model: str = "helper-1") -> Path:
    """Write a published EMPA run of two turns per case, EPM-Q 58.7612."""
    ending = {True: "EPM v2.0 Success: goal reached", False: "Reached max turns (2), timeout"}
    cases = [run_case(case, model=model, termination_reason=ending[ok]) for case, ok in passed.items()]
    return write(path, cases)
