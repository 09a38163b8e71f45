"""EQ-Bench v2, computed by hand."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from mica_ray.benchmarks.eqbench2 import SCALE, EqBench2, distance_penalty
from mica_ray.benchmarks.question import AnswerError, BenchmarkDataError

FIELDS = {f"emotion{number}": name for number, name in enumerate(("Calm", "Angry", "Sad", "Proud"), start=1)}
REFERENCE = FIELDS | {"emotion1_score": 0, "emotion2_score": "6", "emotion3_score": 0, "emotion4_score": 7}
ENTRY = {"prompt": "\nRate them.\n", "reference_answer": {}, "reference_answer_fullscale": REFERENCE}


@pytest.fixture
def bench(tmp_path: Path) -> EqBench2:
    path = tmp_path / "questions.json"
    path.write_text(json.dumps({"7": ENTRY}))
    return EqBench2(path)


def listed(*scores: float | str) -> str:
    return "\n".join(f"{name}: {score}" for name, score in zip(FIELDS.values(), scores, strict=True))


def test_penalty_by_hand() -> None:
    assert distance_penalty(0) == 0
    assert distance_penalty(1) == pytest.approx(6.5 / (1 + math.exp(3.6)))
    assert distance_penalty(4) == 3.25
    # At 5 the curve still holds, above it the distance itself.
    assert distance_penalty(5) == pytest.approx(6.5 / (1 + math.exp(-1.2)))
    assert (distance_penalty(5.5), distance_penalty(10)) == (5.5, 10)


def test_exact_answer_scores_a_hundred(bench: EqBench2) -> None:
    assert bench.score(bench.questions[0], 0, listed(0, 6, 0, 7))["score"] == 100


def test_errors_of_the_emotions_add_up(bench: EqBench2) -> None:
    # Off by 0, 4, 0 and 7: 3.25 + 7 = 10.25.
    found = bench.score(bench.questions[0], 0, listed(0, 2, 0, 0))
    assert found["score"] == pytest.approx(100 - 10 * SCALE * 10.25)


def test_first_and_revised_answers_are_apart(bench: EqBench2) -> None:
    text = f"First pass scores:\n{listed(0, 6, 0, 3)}\nCritique: hm.\nRevised scores:\n{listed(0, 6, 0, 7)}\n"
    found = bench.score(bench.questions[0], 0, text)
    assert (found["revised"], found["score"]) == (100, 100)
    assert found["first_pass"] == pytest.approx(100 - 10 * SCALE * 3.25)


def test_cut_off_revision_leaves_the_first_answer(bench: EqBench2) -> None:
    found = bench.score(bench.questions[0], 0, f"{listed(0, 6, 0, 7)}\nRevised scores:\nCalm: 3")
    assert found == {"score": 100, "first_pass": 100}


@pytest.mark.parametrize("decorated", ["- {}: **{}**", "* **{}:** {}", "{} = {}", "{} - {}/10", "{}：{}.0"])
def test_forms_in_which_models_write_numbers(bench: EqBench2, decorated: str) -> None:
    text = "\n".join(
        decorated.format(name, score) for name, score in zip(FIELDS.values(), (0, 6, 0, 7), strict=True)
    )
    assert bench.score(bench.questions[0], 0, text)["score"] == 100


@pytest.mark.parametrize(
    "text", ["", "They feel sad.", listed(0, 6, 0, 11), listed(0, 6, 0, "high"), "Calm: 3"]
)
def test_answer_without_all_numbers_is_no_score(bench: EqBench2, text: str) -> None:
    with pytest.raises(AnswerError, match="no number for each of Calm, Angry, Sad, Proud"):
        bench.score(bench.questions[0], 0, text)


def test_incomplete_files_are_named(tmp_path: Path) -> None:
    path = tmp_path / "questions.json"
    path.write_text(json.dumps({"7": {"prompt": "Rate them."}}))
    with pytest.raises(BenchmarkDataError, match="question 7 is incomplete"):
        EqBench2(path)
    with pytest.raises(BenchmarkDataError, match="folder of EQ-Bench"):
        EqBench2(tmp_path / "absent.json")


def test_published_questions_score_their_own_references(benchmark_data: Path) -> None:
    bench = EqBench2(benchmark_data / "eqbench2")
    assert len(bench.questions) == 171
    for question in bench.questions:
        names = bench.reference(question)
        text = "\n".join(f"{name}: {score:g}" for name, score in names.items())
        assert bench.score(question, 0, text)["score"] == 100
