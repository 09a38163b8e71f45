"""EmoBench on a file of two questions, and on the published ones where they are at hand."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mica_ray.benchmarks.emobench import EmoBench
from mica_ray.benchmarks.question import AnswerError, BenchmarkDataError

EA = {
    "qid": "1",
    "language": "en",
    "category": "Personal-Self",
    "question type": "Action",
    "scenario": "Tom lost his keys.",
    "subject": "Tom",
    "choices": ["Shout", "Look for them", "Cry", "Move out"],
    "label": "Look for them",
}
EU = {
    "qid": "1",
    "language": "zh",
    "coarse_category": "emotional_cues",
    "scenario": "小明弄丢了钥匙。",
    "subject": "小明",
    "emotion_choices": ["快乐", "焦虑", "骄傲"],
    "emotion_label": "焦虑",
    "cause_choices": ["钥匙不见了", "天气很好"],
    "cause_label": "钥匙不见了",
}


def written(folder: Path, ea: list[dict], eu: list[dict]) -> Path:
    for name, rows in (("EA", ea), ("EU", eu)):
        lines = [json.dumps(row, ensure_ascii=False) for row in rows]
        (folder / f"{name}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


@pytest.fixture
def bench(tmp_path: Path) -> EmoBench:
    return EmoBench(written(tmp_path, [EA], [EU]))


def letter_of(bench: EmoBench, number: int, sample: int, choice: str) -> str:
    """Return the letter of a choice as the prompt shows it."""
    prompt = bench.ask(bench.questions[number], sample)[1]["content"]
    return next(line[0] for line in prompt.splitlines() if line[1:] == f". {choice}")


def test_right_letter_scores_one_in_every_form(bench: EmoBench) -> None:
    right, wrong = (letter_of(bench, 0, 0, choice) for choice in ("Look for them", "Cry"))
    question = bench.questions[0]
    for text in (
        f'{{"answer": "{right}"}}',
        f'```json\n{{"answer": "{right}."}}\n```',
        f'I think so. {{"answer": "({right}) Look for them"}}',
        '{"answer": "look for them."}',
        f"{right}",
        f" {right}. ",
        f"The answer is {right}.",
        f"Answer: ({right})",
        f"答案：{right}",
        f'The most helpful thing for Ana is {right}. "Look for them"',
        f"Ana should look.\n{right}) Look for them",
        f"最有帮助的是{right}。",
    ):
        assert bench.score(question, 0, text)["score"] == 1, text
    assert bench.score(question, 0, f'{{"answer": "{wrong}"}}')["score"] == 0


@pytest.mark.parametrize(
    "text",
    [
        "",
        "I cannot say.",
        '{"answer": "Z"}',
        '{"answer": ""}',
        '{"answer": "K", "why": "A"}',
        "A or B? Hm",
        "It is A. No, it is B.",
        "It is A good question",
    ],
)
def test_answer_without_a_choice_is_no_score(bench: EmoBench, text: str) -> None:
    with pytest.raises(AnswerError, match="names none of the choices A to D"):
        bench.score(bench.questions[0], 0, text)


def test_understanding_needs_emotion_and_cause(bench: EmoBench) -> None:
    question = bench.questions[1]
    emotion, cause = letter_of(bench, 1, 0, "焦虑"), letter_of(bench, 1, 0, "钥匙不见了")
    wrong = letter_of(bench, 1, 0, "天气很好")
    both = bench.score(question, 0, json.dumps({"emotion": emotion, "cause": cause}))
    half = bench.score(question, 0, json.dumps({"emotion": emotion, "cause": wrong}))
    assert both == {"score": 1, "emotion": 1, "cause": 1}
    assert half == {"score": 0, "emotion": 1, "cause": 0}
    assert bench.score(question, 0, f"情绪：{emotion}\n原因：{cause}") == both
    with pytest.raises(AnswerError, match="cause"):
        bench.score(question, 0, json.dumps({"emotion": emotion}))


def test_chance_is_one_over_all_choices(bench: EmoBench) -> None:
    # One of 4; one of 3 emotions and one of 2 causes.
    assert [question.chance for question in bench.questions] == [1 / 4, pytest.approx(1 / 6)]
    assert [question.id for question in bench.questions] == ["EA-en-1", "EU-zh-1"]


def test_choices_move_between_samples_and_not_between_calls(bench: EmoBench) -> None:
    letters = [letter_of(bench, 0, sample, "Look for them") for sample in range(12)]
    assert letters == [letter_of(bench, 0, sample, "Look for them") for sample in range(12)]
    assert len(set(letters)) > 2


def test_prompt_is_in_the_question_s_language(bench: EmoBench) -> None:
    english, chinese = (bench.ask(question, 0) for question in bench.questions)
    assert "Tom lost his keys." in english[1]["content"] and '{"answer": "A"}' in english[0]["content"]
    assert "小明弄丢了钥匙。" in chinese[1]["content"] and "选项" in chinese[0]["content"]


@pytest.mark.parametrize(
    ("changed", "problem"),
    [
        ({"label": "Dance"}, "its label is none of its choices"),
        ({"language": "fr"}, "unknown language"),
        ({"choices": None}, "not a question of EmoBench EA"),
        ({"scenario": ""}, "EA.jsonl, line 1"),
    ],
)
def test_incomplete_question_names_its_line(tmp_path: Path, changed: dict, problem: str) -> None:
    with pytest.raises(BenchmarkDataError, match=problem):
        EmoBench(written(tmp_path, [EA | changed], [EU]))


def test_missing_file_names_the_folder(tmp_path: Path) -> None:
    with pytest.raises(BenchmarkDataError, match="folder of EmoBench"):
        EmoBench(tmp_path)


def test_published_questions_are_complete(benchmark_data: Path) -> None:
    bench = EmoBench(benchmark_data / "emobench")
    counts: dict[tuple[str, str], int] = {}
    for question in bench.questions:
        counts[question.part, question.language] = counts.get((question.part, question.language), 0) + 1
    assert counts == {(part, language): 200 for part in ("EA", "EU") for language in ("en", "zh")}
    assert len({question.id for question in bench.questions}) == 800
