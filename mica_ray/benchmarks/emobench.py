"""EmoBench (arXiv 2402.12071): emotional application (EA) and understanding (EU), English and Chinese.

The questions are the user's copy of EA.jsonl and EU.jsonl; the prompts are our own. Choices are shuffled for
every sample, so that a preference for a letter is not knowledge.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mica_ray.benchmarks.question import AnswerError, BenchmarkDataError, Question
from mica_ray.dialogue.answer import read_object
from mica_ray.files import JsonFileError, JsonLine, read_json_lines
from mica_ray.seeding import derive_seed
from mica_ray.types import Message, Sampling

_LETTERS = "ABCDEFGHIJ"

_INSTRUCTIONS = {
    "en": "You answer multiple-choice questions about people and their emotions. Answer with one JSON object "
    "and nothing else: {form}. Use the letters of the choices.",
    "zh": "你要回答关于人与情绪的选择题。只输出一个 JSON 对象，不要输出其他内容：{form}。请使用选项的字母。",
}
_EA_QUESTIONS = {
    "en": "{scenario}\n\nWhat is the most helpful {kind} for {subject} in this situation?\n{choices}",
    "zh": "{scenario}\n\n在这种情况下，对{subject}来说，最有帮助的{kind}是什么？\n{choices}",
}
_EU_QUESTIONS = {
    "en": "{scenario}\n\n1. Which emotion does {subject} feel in the end?\n{emotions}\n\n"
    "2. Why does {subject} feel this emotion?\n{causes}",
    "zh": "{scenario}\n\n1. {subject}最终感受到的是哪种情绪？\n{emotions}\n\n"
    "2. {subject}为什么会有这种情绪？\n{causes}",
}
_KINDS = {"en": {"Action": "action", "Response": "response"}, "zh": {"Action": "做法", "Response": "回应"}}
_FORMS = {"EA": '{"answer": "A"}', "EU": '{"emotion": "A", "cause": "A"}'}

_LETTER = re.compile(r"[\s\"'(（*\[]*([A-Ja-j])(?:[\s\"'*]*|[)）\].:：、*].*)", re.DOTALL)
"""A letter with brackets or marks around it, and perhaps the words of its choice."""
_LABELLED = {
    name: re.compile(rf"(?i:{words})(?: is|[^A-Za-z\n]){{0,12}}?([A-J])(?![A-Za-z])")
    for name, words in (
        ("answer", "answer|choice|答案|选项|选择"),
        ("emotion", "emotion|情绪|情感"),
        ("cause", "cause|reason|原因"),
    )
}
"""A field of an answer in prose, and the capital letter after it."""
_NAMED = re.compile(
    r"(?:\bis|:|是|选|^)[\s\"'(（*\[]*([A-J])(?=[\"'*]*(?:[)）\].:：、。]|\s*$))", re.MULTILINE
)
"""A letter in prose that a bracket or mark follows, as in `the most helpful response is C. "..."`."""


@dataclass(frozen=True, slots=True)
class _Choice:
    """One thing to choose: its choices and the right one."""

    name: str
    """Field of the answer."""
    choices: tuple[str, ...]
    right: str


class EmoBench:
    """`QuestionBenchmark` over the user's EA.jsonl and EU.jsonl.

    An answer scores 1 if every choice is right (EU: emotion and cause), otherwise 0. Accuracy is the mean.

    Args:
        folder: contains EA.jsonl and EU.jsonl.
        seed: seed of the order of choices.

    Raises:
        BenchmarkDataError: a file is missing, or a question is incomplete.
    """

    name = "emobench"
    sampling = Sampling(temperature=0.6, top_p=0.9, max_tokens=512)

    def __init__(self, folder: Path, *, seed: int = 0) -> None:
        self._seed = seed
        self._lines: dict[str, Mapping[str, Any]] = {}
        self._choices: dict[str, tuple[_Choice, ...]] = {}
        questions = [
            self._read(part, line) for part in ("EA", "EU") for line in _lines(folder / f"{part}.jsonl")
        ]
        self.questions: tuple[Question, ...] = tuple(questions)

    def ask(self, question: Question, sample: int) -> Sequence[Message]:
        """Return instructions and question, with the choices in the order of this sample."""
        line, language = self._lines[question.id], question.language
        lists = {
            item.name: _listed(self._ordered(question, item, sample)) for item in self._choices[question.id]
        }
        if question.part == "EA":
            kind = str(line.get("question type", "Action"))
            text = _EA_QUESTIONS[language].format(
                scenario=line["scenario"],
                subject=line["subject"],
                kind=_KINDS[language].get(kind, kind),
                choices=lists["answer"],
            )
        else:
            text = _EU_QUESTIONS[language].format(
                scenario=line["scenario"],
                subject=line["subject"],
                emotions=lists["emotion"],
                causes=lists["cause"],
            )
        instructions = _INSTRUCTIONS[language].format(form=_FORMS[question.part])
        return ({"role": "system", "content": instructions}, {"role": "user", "content": text})

    def score(self, question: Question, sample: int, text: str) -> dict[str, float]:
        """Return 1 or 0 for each choice, and "score", which is 1 only if all are right.

        Raises:
            AnswerError: a choice is not named, or named twice.
        """
        found: dict[str, float] = {}
        for item in self._choices[question.id]:
            chosen = _chosen(text, item.name, self._ordered(question, item, sample))
            found[item.name] = float(chosen == item.right)
        return {"score": min(found.values()), **found}

    def _read(self, part: str, line: JsonLine) -> Question:
        fields = line.fields
        pairs = (("answer", "choices", "label"),)
        if part == "EU":
            pairs = (
                ("emotion", "emotion_choices", "emotion_label"),
                ("cause", "cause_choices", "cause_label"),
            )
        try:
            choices = tuple(_Choice(name, tuple(fields[many]), fields[right]) for name, many, right in pairs)
            question = Question(
                id=f"{part}-{fields['language']}-{fields['qid']}",
                part=part,
                language=fields["language"],
                category=fields["category" if part == "EA" else "coarse_category"],
                chance=float(np.prod([1 / len(item.choices) for item in choices])),
            )
            is_complete = all(item.right in item.choices for item in choices) and fields["scenario"]
        except (KeyError, TypeError, ZeroDivisionError) as error:
            raise BenchmarkDataError(
                f"{line.place}: not a question of EmoBench {part} ({error!r})."
            ) from error
        if not is_complete or question.language not in _INSTRUCTIONS or question.id in self._lines:
            raise BenchmarkDataError(
                f"{line.place}: question {question.id} has an unknown language, is there twice, or its label "
                "is none of its choices. Download the file again."
            )
        self._lines[question.id], self._choices[question.id] = fields, choices
        return question

    def _ordered(self, question: Question, item: _Choice, sample: int) -> tuple[str, ...]:
        seed = derive_seed(self._seed, question.id, item.name, sample)
        order = np.random.default_rng(seed).permutation(len(item.choices))
        return tuple(item.choices[place] for place in order)


def _lines(path: Path) -> tuple[JsonLine, ...]:
    try:
        return read_json_lines(path)
    except JsonFileError as error:
        raise BenchmarkDataError(f"{error} Name the folder of EmoBench's EA.jsonl and EU.jsonl.") from error


def _listed(choices: Sequence[str]) -> str:
    return "\n".join(f"{letter}. {choice}" for letter, choice in zip(_LETTERS, choices, strict=False))


def _chosen(text: str, name: str, choices: Sequence[str]) -> str:
    """Return the choice that an answer names under a field, by its letter or in its own words."""
    try:
        value = str(read_object(text).get(name, ""))
    except ValueError:
        labelled = _LABELLED[name].findall(text)
        named = set(_NAMED.findall(text)) if name == "answer" else set[str]()
        value = labelled[-1] if labelled else text if name == "answer" else ""
        if not labelled and not _LETTER.fullmatch(value) and len(named) == 1:
            value = named.pop()
    letter = _LETTER.fullmatch(value)
    place = _LETTERS.index(letter[1].upper()) if letter else len(choices)
    if place < len(choices):
        return choices[place]
    spelled = [choice for choice in choices if _plain(choice) == _plain(value)]
    if len(spelled) != 1:
        last = _LETTERS[len(choices) - 1]
        raise AnswerError(f"{name}: {value!r:.60} names none of the choices A to {last}")
    return spelled[0]


def _plain(text: str) -> str:
    return text.strip().strip(".。").casefold()
