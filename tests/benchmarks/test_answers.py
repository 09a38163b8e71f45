"""Asking, storing and adding up."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import pytest

from mica_ray.benchmarks.answers import Answer, AnswerLog, answer_questions, read_answers
from mica_ray.benchmarks.question import AnswerError, BenchmarkDataError, Question
from mica_ray.benchmarks.scores import group_score, question_means, scores_by
from mica_ray.chat.model import ChatError, ChatReply, JsonSchema
from mica_ray.types import Message, Sampling


class Sums:
    """A benchmark of sums; an answer is worth its number."""

    name = "sums"
    sampling = Sampling(max_tokens=8)
    questions = (
        Question("a", part="easy", language="en", category="one", chance=0.5),
        Question("b", part="easy", language="en", category="two", chance=0.25),
        Question("c", part="hard", language="zh", category="two", chance=None),
    )

    def ask(self, question: Question, sample: int) -> Sequence[Message]:
        return ({"role": "user", "content": f"{question.id} {sample}"},)

    def score(self, question: Question, sample: int, text: str) -> dict[str, float]:
        try:
            return {"score": float(text)}
        except ValueError:
            raise AnswerError("no number") from None


class Table:
    """Answers from a table; a kind of failure in place of a text fails."""

    def __init__(self, answers: dict[str, str]) -> None:
        self.answers = answers
        self.seeds: list[int | None] = []

    async def chat(
        self, messages: Sequence[Message], sampling: Sampling, schema: JsonSchema | None = None
    ) -> ChatReply:
        self.seeds.append(sampling.seed)
        text = self.answers[messages[-1]["content"]]
        if text in ("timeout", "content"):
            raise ChatError("failed", kind="timeout" if text == "timeout" else "content", endpoint="table")
        return ChatReply(text, model="table")


async def test_answers_are_kept_and_only_missing_ones_are_asked(tmp_path: Path) -> None:
    log, model = AnswerLog(tmp_path, {"model": "m"}), Table({"a 0": "1", "b 0": "?", "c 0": "timeout"})
    failures = await answer_questions(
        Sums(), log.missing(Sums.questions, 1), model, Sums.sampling, record=log.record
    )
    assert [error.kind for error in failures] == ["timeout"]
    again = AnswerLog(tmp_path, {"model": "m"})
    assert [(item.id, sample) for item, sample in again.missing(Sums.questions, 2)] == [
        ("c", 0), ("a", 1), ("b", 1), ("c", 1)
    ]  # fmt: skip
    assert sorted(again.answers, key=lambda answer: answer.question) == [
        Answer("a", 0, "1", scores={"score": 1.0}),
        Answer("b", 0, "?", problem="no number"),
    ]
    assert len(set(model.seeds)) == 3


async def test_unusable_text_counts_and_a_failed_call_does_not(tmp_path: Path) -> None:
    log = AnswerLog(tmp_path, {})
    model = Table({"a 0": "content", "b 0": "timeout"})
    await answer_questions(
        Sums(), [(item, 0) for item in Sums.questions[:2]], model, Sums.sampling, record=log.record
    )
    assert [(answer.question, answer.scores) for answer in log.answers] == [("a", None)]


def test_half_written_line_is_asked_again(tmp_path: Path) -> None:
    log = AnswerLog(tmp_path, {})
    log.record(Answer("a", 0, "1", scores={"score": 1.0}))
    with log.path.open("ab") as file:
        file.write(b'{"question": "b", "sam')
    again = AnswerLog(tmp_path, {})
    again.record(Answer("b", 0, "2", scores={"score": 2.0}))
    assert [answer.question for answer in AnswerLog(tmp_path, {}).answers] == ["a", "b"]


@pytest.mark.parametrize(
    "line",
    [
        '{"question": "a", "sample": 0, "scores": {"score": "1"}}',
        '{"question": "a", "sample": 0, "scores": [1]}',
        '{"question": ["a"], "sample": 0}',
        '{"question": "a", "sample": "0"}',
        '{"question": "a"}',
        '{"question": "a", "sample": 0, "mark": 1}',
    ],
)
def test_line_that_is_no_answer_is_named(tmp_path: Path, line: str) -> None:
    path = tmp_path / "answers.jsonl"
    path.write_text(line + "\n")
    with pytest.raises(BenchmarkDataError, match=r"answers\.jsonl: not a file of answers"):
        read_answers(path)


def test_last_answer_to_a_question_counts(tmp_path: Path) -> None:
    path = tmp_path / "answers.jsonl"
    path.write_text(
        '{"question": "a", "sample": 0}\n{"question": "a", "sample": 0, "scores": {"score": 1}}\n'
    )
    assert read_answers(path) == {("a", 0): Answer("a", 0, scores={"score": 1})}


def test_means_leave_out_questions_without_the_score() -> None:
    answers = [Answer("a", 0, scores={"score": 1.0, "first": 3.0}), Answer("a", 1, scores={"score": 0.0})]
    answers += [Answer("b", 0, problem="no number")]
    assert question_means(answers) == {"a": 0.5}
    assert question_means(answers, name="first") == {"a": 3.0}


def test_folder_holds_one_setting(tmp_path: Path) -> None:
    AnswerLog(tmp_path, {"model": "m", "temperature": 0.5})
    with pytest.raises(BenchmarkDataError, match=r"temperature=0\.5, not 1\.0.*another folder"):
        AnswerLog(tmp_path, {"model": "m", "temperature": 1.0})


def test_samples_are_averaged_before_questions() -> None:
    # a: (1 + 0) / 2 = 0.5; b: 1. Mean 0.75, where the mean over answers would be 2/3.
    answers = [Answer("a", 0, scores={"score": 1.0}), Answer("a", 1, scores={"score": 0.0})]
    answers += [Answer("b", 0, scores={"score": 1.0})]
    found = group_score(Sums.questions, answers)
    assert found.score.estimate == 0.75
    assert (found.num_questions, found.num_answers, found.num_unscored) == (2, 3, 0)
    assert found.chance == pytest.approx(0.375)


def test_answers_without_a_score_are_counted_and_not_scored() -> None:
    answers = [Answer("a", 0, scores={"score": 1.0}), Answer("b", 0, problem="no number")]
    found = group_score(Sums.questions, answers)
    assert (found.score.estimate, found.strict, found.num_unscored) == (1.0, 0.5, 1)
    nothing = group_score(Sums.questions, [])
    assert math.isnan(nothing.score.estimate) and math.isnan(nothing.strict)


def test_scores_by_part_and_category() -> None:
    answers = [
        Answer(name, 0, scores={"score": value}) for name, value in (("a", 1.0), ("b", 0.0), ("c", 0.5))
    ]
    parts = scores_by("part", Sums.questions, answers)
    assert {name: item.score.estimate for name, item in parts.items()} == {"easy": 0.5, "hard": 0.5}
    assert parts["hard"].chance is None
    categories = scores_by("category", Sums.questions, answers)
    assert {name: item.score.estimate for name, item in categories.items()} == {"one": 1.0, "two": 0.25}
