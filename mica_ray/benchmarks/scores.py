"""The scores of a benchmark: means over questions with intervals, by part, language and category."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from mica_ray.benchmarks.answers import Answer
from mica_ray.benchmarks.question import Question
from mica_ray.statistics import Interval, bootstrap_mean


@dataclass(frozen=True, slots=True)
class GroupScore:
    """The score of a group of questions."""

    score: Interval
    """Mean over questions with a scored answer; the interval resamples questions. NaN without any."""
    strict: float
    """The same mean if an answer without a score counts as 0; NaN without any answer."""
    chance: float | None
    """Expected score of random answers; None if it is not defined."""
    num_questions: int
    """Questions with an answer."""
    num_answers: int
    num_unscored: int
    """Answers in which no score could be found."""


def group_score(
    questions: Sequence[Question], answers: Sequence[Answer], *, name: str = "score", seed: int = 0
) -> GroupScore:
    """Return the score of these questions: samples of a question are averaged first.

    Args:
        questions: the group.
        answers: of any questions; others are left out.
        name: name of the score.
        seed: seed of the bootstrap.
    """
    by_id = {question.id: question for question in questions}
    given = [answer for answer in answers if answer.question in by_id]
    strict: dict[str, list[float]] = {}
    for answer in given:
        value = None if answer.scores is None else answer.scores.get(name)
        strict.setdefault(answer.question, []).append(0.0 if value is None else value)
    chances = [by_id[number].chance for number in strict]
    known = [chance for chance in chances if chance is not None]
    return GroupScore(
        score=bootstrap_mean(list(question_means(given, name=name).values()), seed=seed),
        strict=float(np.mean([np.mean(values) for values in strict.values()])) if strict else float("nan"),
        chance=float(np.mean(known)) if known and len(known) == len(chances) else None,
        num_questions=len(strict),
        num_answers=len(given),
        num_unscored=sum(answer.scores is None or name not in answer.scores for answer in given),
    )


def question_means(answers: Sequence[Answer], *, name: str = "score") -> dict[str, float]:
    """Return the mean score of each question over its samples.

    Answers without the score are left out; so is a question that has no other answers.
    """
    scored: dict[str, list[float]] = {}
    for answer in answers:
        if answer.scores is not None and name in answer.scores:
            scored.setdefault(answer.question, []).append(answer.scores[name])
    return {question: float(np.mean(values)) for question, values in scored.items()}


def scores_by(
    field: str, questions: Sequence[Question], answers: Sequence[Answer], *, seed: int = 0
) -> Mapping[str, GroupScore]:
    """Return the score of each value of a field of the questions: "part", "language" or "category"."""
    values = dict.fromkeys(str(getattr(question, field)) for question in questions)
    return {
        value: group_score([item for item in questions if getattr(item, field) == value], answers, seed=seed)
        for value in values
    }


def named_scores(answers: Sequence[Answer]) -> tuple[str, ...]:
    """Return the names of the scores that answers have, the headline "score" first."""
    names = dict.fromkeys(name for answer in answers for name in answer.scores or ())
    return tuple(sorted(names, key=lambda name: name != "score"))
