"""A benchmark of single questions: what is asked, and how an answer is scored.

emobench.py and eqbench2.py are two of them; answers.py asks the questions, scores.py adds the scores up.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from mica_ray.types import Message, Sampling


class BenchmarkDataError(ValueError):
    """The user's copy of a benchmark cannot be read; the message names the file and the remedy."""


class AnswerError(ValueError):
    """An answer in which no score can be found. It is counted, and never scored."""


@dataclass(frozen=True, slots=True)
class Question:
    """One question of a benchmark."""

    id: str
    """Unique in its benchmark."""
    part: str
    """Part of the benchmark with a score of its own, such as "EA"."""
    language: str
    category: str
    chance: float | None
    """Expected score of a random answer; None if random answers have no defined score."""


class QuestionBenchmark(Protocol):
    """Asks questions and scores the answers. Needs no judge."""

    @property
    def name(self) -> str:
        """Name of the benchmark, as the command line has it."""
        ...

    @property
    def questions(self) -> Sequence[Question]:
        """All questions, in the order of the files."""
        ...

    @property
    def sampling(self) -> Sampling:
        """How the benchmark samples an answer; the seed is replaced for every answer."""
        ...

    def ask(self, question: Question, sample: int) -> Sequence[Message]:
        """Return the prompt of the sample-th answer to a question."""
        ...

    def score(self, question: Question, sample: int, text: str) -> dict[str, float]:
        """Return the named scores of an answer.

        "score" is the headline; all scores have the unit that the benchmark defines.

        Raises:
            AnswerError: no score can be found in the answer.
        """
        ...
