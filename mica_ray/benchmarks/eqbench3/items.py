"""Read the user's copy of EQ-Bench 3: items, prompts, criteria and notes. The package contains none."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from mica_ray.benchmarks.question import BenchmarkDataError, Question
from mica_ray.files import JsonFileError, read_text

Kind = Literal["role-play", "drafting", "direct", "analysis"]

DEBRIEF = "debrief"
"""Name of the last turn, in which the policy reflects on its replies. An analysis has none."""
NO_NOTES = "None."

_OF_CONVERSATIONS = (
    "demonstrated_empathy",
    "pragmatic_ei",
    "depth_of_insight",
    "social_dexterity",
    "emotional_reasoning",
    "message_tailoring",
)
SCORED: Mapping[Kind, tuple[str, ...]] = {
    "role-play": _OF_CONVERSATIONS,
    "drafting": _OF_CONVERSATIONS,
    "direct": _OF_CONVERSATIONS,
    "analysis": (
        "depth_of_insight",
        "emotional_reasoning",
        "theory_of_mind",
        "subtext_identification",
        "intellectual_grounding",
        "correctness",
    ),
}
"""Criteria of the score. The others describe the style of a role-play: more is neither good nor bad."""

_DIRECT = ("8", "10", "12", "14")
"""Items that are a conversation with the assistant itself; its replies have no form (EQ-Bench 3's list)."""
_ITEM = re.compile(r"########(?!#)\s*(\S+)\s*\|?([^|\n]*)")
_TURN = re.compile(r"#######(?!#)\s*Prompt\s*\d+\s*", re.IGNORECASE)
_HEADING = re.compile(r"^# *(\S.*?) *$", re.MULTILINE)
_NOTE = re.compile(r"^# (\S+) *$", re.MULTILINE)
_COMPARED = re.compile(r'"(\w+)":\s*"winner\b')
_PLACE = re.compile(r"\{(\w+)\}")

_FILES: Mapping[str, tuple[str, ...]] = {
    "scenario_prompts.txt": (),
    "scenario_notes.txt": (),
    "scenario_master_prompt.txt": ("scenario_prompt",),
    "scenario_master_prompt_message_drafting.txt": ("scenario_prompt",),
    "scenario_master_prompt_analysis.txt": ("scenario_prompt",),
    "debrief_prompt.txt": (),
    "rubric_scoring_prompt.txt": ("transcript", "debrief", "output_format"),
    "rubric_scoring_prompt_analysis.txt": ("transcript", "output_format"),
    "rubric_scoring_criteria.txt": (),
    "rubric_scoring_criteria_analysis.txt": (),
    "pairwise_prompt_eqbench3.txt": (
        "conversation_history_A",
        "debrief_A",
        "conversation_history_B",
        "debrief_B",
        "scenario_notes",
    ),
    "pairwise_prompt_eqbench3_analysis.txt": (
        "transcript_being_analysed",
        "response_A",
        "response_B",
        "scenario_notes",
    ),
}
"""The files of the benchmark, and the places that each must have."""
_PLAYED = tuple(
    name for name in _FILES if name.startswith(("scenario_prompts", "scenario_master", "debrief"))
)
_MASTER: Mapping[Kind, str] = {
    "role-play": "scenario_master_prompt.txt",
    "drafting": "scenario_master_prompt_message_drafting.txt",
    "analysis": "scenario_master_prompt_analysis.txt",
}


@dataclass(frozen=True, slots=True)
class Item:
    """One task of the benchmark."""

    id: str
    kind: Kind
    category: str
    prompts: tuple[str, ...]
    """What is said to the policy in each turn, as the file has it."""

    @property
    def question(self) -> Question:
        """The item as a question, for tables of scores."""
        return Question(self.id, part=self.kind, language="en", category=self.category, chance=None)


class EqBench3:
    """The user's copy of EQ-Bench 3.

    Args:
        folder: contains scenario_prompts.txt and the other files, or has them in `data/`.

    Attributes:
        items: in the order of the file.
        skipped: ids of items without a turn that starts with "####### PromptN". EQ-Bench's own program does
            not play them either.

    Raises:
        BenchmarkDataError: a file is missing or incomplete.
    """

    name = "eqbench3"

    def __init__(self, folder: Path) -> None:
        self._folder = folder if (folder / "scenario_prompts.txt").exists() else folder / "data"
        self._texts = {name: self._read(name, places) for name, places in _FILES.items()}
        found = _read_items(self._texts["scenario_prompts.txt"])
        self.skipped = tuple(item.id for item in found if not item.prompts)
        self.items = tuple(item for item in found if item.prompts)
        ids = [item.id for item in self.items]
        if not ids or len(set(ids)) < len(ids):
            raise BenchmarkDataError(
                f"{self._folder / 'scenario_prompts.txt'}: holds no item, or one twice. Download it again."
            )
        self._notes = _split(self._texts["scenario_notes.txt"], _NOTE)
        for kind, needed in SCORED.items():
            if missing := set(needed) - set(self.criteria(kind)):
                raise BenchmarkDataError(
                    f"{self._folder}: the criteria of kind {kind} lack {', '.join(sorted(missing))}. "
                    "Download the files again."
                )

    @property
    def played_digest(self) -> str:
        """Digest of the files that a conversation depends on."""
        return self._digest([*_PLAYED])

    @property
    def judged_digest(self) -> str:
        """Digest of the files that a judgement depends on besides the conversation."""
        return self._digest([name for name in _FILES if name not in _PLAYED])

    def turns(self, item: Item) -> tuple[tuple[str, str], ...]:
        """Return name and message of each turn: "1", "2", ..., and the debrief unless it is an analysis."""
        master = self._texts[_MASTER[item.kind]] if item.kind in _MASTER else "{scenario_prompt}"
        turns = [
            (str(number), filled(master, scenario_prompt=prompt))
            for number, prompt in enumerate(item.prompts, start=1)
        ]
        if item.kind != "analysis":
            turns.append((DEBRIEF, self._texts["debrief_prompt.txt"].strip()))
        return tuple(turns)

    def headings(self, kind: Kind) -> tuple[str, ...]:
        """Return the headings of the sections that a reply must have; empty if it has no form."""
        if kind in ("analysis", "direct"):
            return ()
        return tuple(_HEADING.findall(self._texts[_MASTER[kind]]))

    def criteria(self, kind: Kind) -> tuple[str, ...]:
        """Return what the judge rates, 0 to 20: the scored criteria and, in role-plays, those of style."""
        lines = self._texts[f"rubric_scoring_criteria{_suffix(kind)}.txt"].splitlines()
        return tuple(line.strip() for line in lines if line.strip() and not line.strip().startswith("#"))

    def rubric_prompt(self, kind: Kind) -> str:
        """Return the judge's prompt, with places for transcript, debrief and form of the answer."""
        return self._texts[f"rubric_scoring_prompt{_suffix(kind)}.txt"]

    def pairwise_prompt(self, kind: Kind) -> str:
        """Return the prompt of a comparison, with places for the texts of both policies and the notes."""
        return self._texts[f"pairwise_prompt_eqbench3{_suffix(kind)}.txt"]

    def compared_criteria(self, kind: Kind) -> tuple[str, ...]:
        """Return the criteria for which a comparison names a winner, from the form in its prompt.

        Raises:
            BenchmarkDataError: the prompt has no such form.
        """
        found = tuple(_COMPARED.findall(self.pairwise_prompt(kind)))
        if not found:
            name = f"pairwise_prompt_eqbench3{_suffix(kind)}.txt"
            raise BenchmarkDataError(f"{self._folder / name}: names no criterion. Download it again.")
        return found

    def notes(self, item: Item) -> str:
        """Return the notes on an item that a comparing judge sees."""
        return self._notes.get(item.id) or NO_NOTES

    def _read(self, name: str, places: Sequence[str]) -> str:
        path = self._folder / name
        try:
            text = read_text(path).replace("\r\n", "\n")
        except JsonFileError as error:
            raise BenchmarkDataError(f"{error} Name the folder of EQ-Bench 3's data with --data.") from error
        if missing := set(places) - set(_PLACE.findall(text)):
            raise BenchmarkDataError(
                f"{path}: has no place {{{sorted(missing)[0]}}}. Download the file again."
            )
        return text

    def _digest(self, names: Sequence[str]) -> str:
        joined = "\x1f".join(self._texts[name] for name in names)
        return hashlib.blake2b(joined.encode(), digest_size=8).hexdigest()


def filled(template: str, **texts: str) -> str:
    """Return a template with its places filled. A place that a text contains is not filled in turn.

    >>> filled('{a} and {b}, {"json": 1}', a="{b}", b="2")
    '{b} and 2, {"json": 1}'
    """
    return _PLACE.sub(lambda place: texts.get(place[1], place[0]), template)


def _suffix(kind: Kind) -> str:
    return "_analysis" if kind == "analysis" else ""


def _kind(number: str) -> Kind:
    """Return the kind of an item by its id, as EQ-Bench 3 does: 201 to 209 drafting, from 401 on analysis."""
    if number in _DIRECT:
        return "direct"
    if number.isdecimal() and 201 <= int(number) <= 209:
        return "drafting"
    return "analysis" if number.isdecimal() and int(number) > 400 else "role-play"


def _read_items(text: str) -> list[Item]:
    items: list[Item] = []
    number, category = "", ""
    turns: list[list[str]] = []

    def close() -> None:
        prompts = ["\n".join(lines).strip() for lines in turns]
        if number:
            items.append(Item(number, _kind(number), category, tuple(prompt for prompt in prompts if prompt)))

    for line in text.split("\n"):
        if head := _ITEM.match(line.strip()):
            close()
            number, category, turns = head[1], head[2].strip(), []
        elif _TURN.fullmatch(line.strip()):
            turns.append([])
        elif turns:
            turns[-1].append(line)
    close()
    return items


def _split(text: str, head: re.Pattern[str]) -> dict[str, str]:
    """Return the text below each heading, by what the heading names."""
    _, *parts = head.split(text)
    return {name: body.strip() for name, body in zip(parts[::2], parts[1::2], strict=True)}
