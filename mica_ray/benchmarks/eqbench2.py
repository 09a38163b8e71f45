"""EQ-Bench v2 (arXiv 2312.06281): intensities of four emotions at the end of a dialogue; needs no judge.

Questions and prompts are the user's copy of eq_bench_v2_questions_171.json.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mica_ray.benchmarks.question import AnswerError, BenchmarkDataError, Question
from mica_ray.files import JsonFileError, read_json_object
from mica_ray.types import Message, Sampling

SCALE = 0.7477
"""Weight of a point of penalty: random answers then score about 0 (EQ-Bench v2)."""
_FILE = "eq_bench_v2_questions_171.json"
_REVISED = re.compile(r"revised\s+scores", re.IGNORECASE)
_EMOTIONS = 4


def distance_penalty(distance: float) -> float:
    """Return what an intensity that is off by a distance costs.

        s(d) = 0 at 0;  6.5 / (1 + exp(-1.2 (d - 4))) up to 5;  d above         EQ-Bench v2

    >>> distance_penalty(0), round(distance_penalty(4), 2), distance_penalty(6)
    (0.0, 3.25, 6.0)

    Args:
        distance: |answer - reference|, 0 to 10.
    """
    if distance == 0:
        return 0.0
    return 6.5 / (1 + math.exp(-1.2 * (distance - 4))) if distance <= 5 else float(distance)


class EqBench2:
    """`QuestionBenchmark` over the user's copy of the 171 questions.

    An answer scores 100 - 7.477 sum_k s(d_k) over the four emotions, and the benchmark is the mean: random
    answers score about 0 and perfect ones 100. The prompts ask for a first and a revised answer, which are
    scored apart as "first_pass" and "revised". Published results are the higher of the two means.

    Args:
        path: the file, or the folder that contains it.

    Raises:
        BenchmarkDataError: the file is missing, or a question is incomplete.
    """

    name = "eqbench2"
    sampling = Sampling(temperature=0.01, max_tokens=1000)

    def __init__(self, path: Path) -> None:
        file = path / _FILE if path.is_dir() else path
        try:
            found = read_json_object(file)
        except JsonFileError as error:
            raise BenchmarkDataError(f"{error} Name the folder of EQ-Bench's {_FILE}.") from error
        self._prompts: dict[str, str] = {}
        self._references: dict[str, dict[str, float]] = {}
        for number, fields in found.items():
            try:
                self._prompts[number] = str(fields["prompt"])
                self._references[number] = _reference(fields["reference_answer_fullscale"])
            except (KeyError, TypeError, ValueError) as error:
                raise BenchmarkDataError(
                    f"{file}: question {number} is incomplete ({error!r}). Download the file again."
                ) from error
        self.questions: tuple[Question, ...] = tuple(
            Question(number, part="EQ", language="en", category="all", chance=0.0) for number in self._prompts
        )

    def ask(self, question: Question, sample: int) -> Sequence[Message]:
        """Return the question as the file has it."""
        return ({"role": "user", "content": self._prompts[question.id].strip()},)

    def reference(self, question: Question) -> Mapping[str, float]:
        """Return the reference intensity of each emotion, 0 to 10."""
        return self._references[question.id]

    def score(self, question: Question, sample: int, text: str) -> dict[str, float]:
        """Return the scores of the first and the revised answer, at most 100 each; "score" is the last one.

        Raises:
            AnswerError: no answer names all four emotions with a number.
        """
        first, *revised = _REVISED.split(text)
        reference = self._references[question.id]
        found: dict[str, float] = {}
        for name, part in (("first_pass", first), ("revised", revised[-1] if revised else "")):
            given = _intensities(part, reference)
            if given is not None:
                penalty = sum(distance_penalty(abs(given[key] - reference[key])) for key in reference)
                found[name] = 100 - 10 * SCALE * penalty
        if not found:
            raise AnswerError(f"no number for each of {', '.join(reference)}")
        return {"score": list(found.values())[-1], **found}


def _reference(fields: Mapping[str, Any]) -> dict[str, float]:
    names = [str(fields[f"emotion{number}"]) for number in range(1, _EMOTIONS + 1)]
    return {name: float(fields[f"emotion{number}_score"]) for number, name in enumerate(names, start=1)}


def _intensities(text: str, reference: Mapping[str, float]) -> dict[str, float] | None:
    """Return the intensity of each emotion; None unless all are there and in 0 to 10."""
    found: dict[str, float] = {}
    for name in reference:
        match = re.search(rf"{re.escape(name)}\W{{0,6}}?\s*[:：=\-]\W*?(\d+(?:\.\d+)?)", text, re.IGNORECASE)
        if match is None or not 0 <= float(match[1]) <= 10:
            return None
        found[name] = float(match[1])
    return found
