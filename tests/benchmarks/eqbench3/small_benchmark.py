"""A benchmark with the files and forms of EQ-Bench 3 and texts of our own: one item of each kind."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from mica_ray.benchmarks.eqbench3.items import SCORED, EqBench3, Item, Kind
from mica_ray.benchmarks.eqbench3.rubric import REASONING

STYLE = ("warmth", "analytical")

PROMPTS = """######## 1   | Work   | Lost parcel
####### Prompt1
A parcel is lost.

It was yours.
####### Prompt2
Your boss asks about it.

######## 8 | Friend | Plain talk
####### Prompt1
Tell me about {debrief} parcels.

######## 208 | Friend | A card
####### Prompt1
Write a card.

######## 401 | Analytical Interpretation | Lost parcel
####### Prompt1
# Scenario act 1
A parcel is lost.
# Participant:
It was mine.

######## 409 | Analytical Interpretation | No prompt
####### 1
This turn has another heading.
"""

FILES = {
    "scenario_prompts.txt": PROMPTS,
    "scenario_notes.txt": "# 1\nThe parcel stands for trust.\n# 7\nOf another item.\n",
    "scenario_master_prompt.txt": (
        "{scenario_prompt}\n--\nUse:\n# I'm feeling\n<a>\n# They're feeling\n<b>\n# My reply\n<c>"
    ),
    "scenario_master_prompt_message_drafting.txt": "{scenario_prompt}\n# Plan\n<a>\n# Draft\n<b>",
    "scenario_master_prompt_analysis.txt": "[TALK]\n{scenario_prompt}\n[/TALK]\nAnalyse it.",
    "debrief_prompt.txt": "How did it go?\n",
    "rubric_scoring_prompt.txt": "Score it.\n{transcript}\n---\nDebrief:\n{debrief}\nForm:\n{output_format}",
    "rubric_scoring_prompt_analysis.txt": "Score the analysis.\n{transcript}\nForm:\n{output_format}",
    "rubric_scoring_criteria.txt": "\n".join(("# what is rated", *SCORED["role-play"], *STYLE)),
    "rubric_scoring_criteria_analysis.txt": "\n".join(SCORED["analysis"]),
    "pairwise_prompt_eqbench3.txt": (
        "[RESPONDENT A0493]\n{conversation_history_A}\nDebrief: {debrief_A}\n[/RESPONDENT A0493]\n"
        "[RESPONDENT A0488]\n{conversation_history_B}\nDebrief: {debrief_B}\n[/RESPONDENT A0488]\n"
        'Notes: {scenario_notes}\n{\n "chain_of_thought_reasoning": "reasons",\n'
        ' "warmth": "winner & rating",\n "overall_eq": "winner & rating",\n}'
    ),
    "pairwise_prompt_eqbench3_analysis.txt": (
        "Compare.\n{transcript_being_analysed}\nOne: {response_A}\nTwo: {response_B}\n"
        "Notes: {scenario_notes}\n"
        '{"chain_of_thought_reasoning": "reasons", "overall_eq": "winner & rating"}'
    ),
}
"""Name and text of each file."""

FORMED = "# I'm feeling\nSorry.\n# They’re feeling\nCross.\n# My reply\nI am sorry."
"""A reply with the sections of a role-play."""


def write_benchmark(folder: Path, **changed: str) -> Path:
    """Write the files; a keyword such as `debrief_prompt` replaces the text of its file."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in FILES.items():
        (folder / name).write_text(changed.get(name.removesuffix(".txt"), text))
    return folder


def item_of(data: EqBench3, kind: Kind) -> Item:
    """Return the item of a kind."""
    return next(item for item in data.items if item.kind == kind)


def judgement(criteria: Sequence[str], value: object = 10, **changed: object) -> str:
    """Return a judge's answer with the same value for every criterion that is not changed."""
    return json.dumps({REASONING: "so", **dict.fromkeys(criteria, value), **changed})
