"""Ask a model the questions of a benchmark; every finished answer is kept, so that later calls continue."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from mica_ray.benchmarks.question import AnswerError, BenchmarkDataError, Question, QuestionBenchmark
from mica_ray.chat.model import ChatError, ChatModel
from mica_ray.files import (
    JsonFileError,
    JsonLine,
    append_line,
    json_line,
    keep_settings,
    mend_lines,
    read_json_lines,
)
from mica_ray.seeding import derive_seed
from mica_ray.types import Sampling


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer of a model. Neither a failed call nor an unreadable text has a score."""

    question: str
    sample: int
    text: str = ""
    scores: dict[str, float] | None = None
    """Scores by name; None if none could be found in the text, or if a judge scores it later."""
    problem: str | None = None
    """Why the text cannot be used; None if it can."""


class AnswerLog:
    """The answers to one benchmark by one model, in a folder: answers.jsonl and settings.json.

    Args:
        folder: created if missing.
        settings: everything the answers depend on. A folder holds the answers of one setting only.

    Raises:
        BenchmarkDataError: the folder holds answers under other settings, or cannot be read.
    """

    def __init__(self, folder: Path, settings: dict[str, object]) -> None:
        self.path = folder / "answers.jsonl"
        folder.mkdir(parents=True, exist_ok=True)
        _check_settings(folder / "settings.json", settings)
        mend_lines(self.path)
        self._answers = read_answers(self.path)

    @property
    def answers(self) -> tuple[Answer, ...]:
        """The answers so far."""
        return tuple(self._answers.values())

    def find(self, question: str, sample: int) -> Answer | None:
        """Return the answer to a question; None if there is none yet."""
        return self._answers.get((question, sample))

    def missing(self, questions: Sequence[Question], samples: int) -> list[tuple[Question, int]]:
        """Return the questions and sample numbers without an answer, the first samples first."""
        wanted = [(question, sample) for sample in range(samples) for question in questions]
        return [pair for pair in wanted if (pair[0].id, pair[1]) not in self._answers]

    def record(self, answer: Answer) -> None:
        """Store an answer."""
        self._answers[answer.question, answer.sample] = answer
        append_line(self.path, json_line(asdict(answer)))


def read_answers(path: Path) -> dict[tuple[str, int], Answer]:
    """Return the answers of a file by question and sample; none if the file is missing.

    A command may still be writing the file. The last answer to a question and sample counts.

    Raises:
        BenchmarkDataError: the file cannot be read, or a line is not an answer.
    """
    try:
        answers = [_read_answer(line) for line in read_json_lines(path, is_growing=True)]
    except (JsonFileError, TypeError) as error:
        raise BenchmarkDataError(f"{path}: not a file of answers ({error}).") from error
    return {(answer.question, answer.sample): answer for answer in answers}


def _read_answer(line: JsonLine) -> Answer:
    answer = Answer(**line.fields)
    scores = {} if answer.scores is None else answer.scores
    if not isinstance(scores, dict) or not all(isinstance(score, int | float) for score in scores.values()):
        raise TypeError(f"line {line.number}: scores must be numbers by name or null, got {scores!r:.60}")
    if not isinstance(answer.question, str) or not isinstance(answer.sample, int):
        raise TypeError(f"line {line.number}: question must be a text and sample a number")
    return answer


async def answer_questions(
    benchmark: QuestionBenchmark,
    wanted: Sequence[tuple[Question, int]],
    model: ChatModel,
    sampling: Sampling,
    *,
    record: Callable[[Answer], None],
    seed: int = 0,
    concurrency: int = 8,
) -> tuple[ChatError, ...]:
    """Ask for the missing answers, and record each one when it arrives.

    A failed call is not recorded: the next call of the command asks again. An answer without a score is
    recorded with its text and counted.

    Args:
        benchmark: asks and scores.
        wanted: questions and sample numbers.
        model: the model under test, with deadlines of its own.
        sampling: parameters of every answer; the seed is replaced.
        record: receives every answer.
        seed: seed of the sampling.
        concurrency: maximum number of calls in flight.

    Returns:
        The failures of the model.
    """
    slots, failures = asyncio.Semaphore(concurrency), list[ChatError]()

    async def answer(question: Question, sample: int) -> None:
        async with slots:
            of_answer = replace(sampling, seed=derive_seed(seed, question.id, sample))
            try:
                reply = await model.chat(benchmark.ask(question, sample), of_answer)
            except ChatError as error:
                if error.kind != "content":
                    failures.append(error)
                    return
                record(Answer(question.id, sample, problem=str(error)))
                return
            record(_scored(benchmark, question, sample, reply.text))

    async with asyncio.TaskGroup() as tasks:
        for question, sample in wanted:
            tasks.create_task(answer(question, sample))
    return tuple(failures)


def _scored(benchmark: QuestionBenchmark, question: Question, sample: int, text: str) -> Answer:
    try:
        return Answer(question.id, sample, text, scores=benchmark.score(question, sample, text))
    except AnswerError as error:
        return Answer(question.id, sample, text, problem=str(error))


def _check_settings(path: Path, settings: dict[str, object]) -> None:
    change = keep_settings(path, settings)
    if change is not None:
        name, was, now = change
        raise BenchmarkDataError(
            f"{path.parent} holds answers with {name}={was!r}, not {now!r}. Use another folder: --out DIR."
        )
