"""One HTML page with pictures, numbers and talk inside it: opens offline, runs no script, trusts no text."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from html import escape

import numpy as np

from mica_ray.evaluation.empa_score import INDEX_NAMES
from mica_ray.reporting.canvas import OUTCOME_NAMES, DrawnFigure
from mica_ray.reporting.drawn_dialogue import AXES, DrawnDialogue, models_of

MOST_TALKS = 200
"""Dialogues whose talk stands in the page: a browser should still open it."""

# A page that may load nothing and run nothing: a second lock behind the escaping.
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #222; max-width: 1180px; margin: 2rem auto;
padding: 0 1rem; }
figure { margin: 2.5rem 0; } img { width: 100%; height: auto; border: 1px solid #ddd; }
figcaption { color: #555; font-size: .9rem; }
table { border-collapse: collapse; margin: 1rem 0; }
th, td { padding: .25rem .6rem; border-bottom: 1px solid #ddd; text-align: left; vertical-align: top; }
td.n, th.n { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
details { margin: .3rem 0; } summary { cursor: pointer; }
.talk td { overflow-wrap: anywhere; white-space: pre-wrap; }
"""


def html_report(
    dialogues: Sequence[DrawnDialogue],
    pictures: Sequence[tuple[DrawnFigure, bytes]],
    *,
    num_left_out: int = 0,
) -> str:
    """Write the page.

    Args:
        dialogues: whose numbers and talk stand below the pictures.
        pictures: figures with their PNG.
        num_left_out: dialogues that could not be drawn.
    """
    lost = f" {num_left_out} more failed or were empty and are left out." if num_left_out else ""
    parts = [
        "<!DOCTYPE html>",
        '<html lang="en"><head><meta charset="utf-8">',
        f'<meta http-equiv="Content-Security-Policy" content="{escape(_POLICY)}">',
        f"<title>Dialogues in figures</title><style>{_STYLE}</style></head><body>",
        f"<h1>Dialogues in figures</h1><p>{len(dialogues)} dialogues.{lost}</p>",
        _scores(dialogues),
        *(_picture(figure, png) for figure, png in pictures),
        _talks(dialogues),
        "</body></html>",
    ]
    return "\n".join(parts)


def _picture(figure: DrawnFigure, png: bytes) -> str:
    source = f"data:image/png;base64,{base64.b64encode(png).decode()}"
    alt = escape(figure.title)
    caption = escape(figure.caption.replace(r"\$", "$"))
    return (
        f'<figure><h2>{alt}</h2><img alt="{alt}" src="{source}"><figcaption>{caption}</figcaption></figure>'
    )


def _scores(dialogues: Sequence[DrawnDialogue]) -> str:
    """Write the numbers behind the comparison: one row per model."""
    heads = ["dialogues", "success", "EPM-Q", *INDEX_NAMES]
    rows = ["<tr><th>model</th>" + "".join(f'<th class="n">{escape(head)}</th>' for head in heads) + "</tr>"]
    for model, members in models_of(dialogues).items():
        scores = [score for one in members if (score := one.score) is not None]
        means = [
            np.mean([getattr(score, name) for score in scores]) for name in ("score", *INDEX_NAMES) if scores
        ]
        passed = sum(one.outcome == "success" for one in members)
        cells = [str(len(members)), str(passed), *(f"{mean:.1f}" for mean in means)]
        rows.append(
            f"<tr><td>{escape(model)}</td>"
            + "".join(f'<td class="n">{cell}</td>' for cell in cells)
            + "</tr>"
        )
    return f"<table>{''.join(rows)}</table>"


def _talks(dialogues: Sequence[DrawnDialogue]) -> str:
    spoken = [dialogue for dialogue in dialogues if dialogue.talk]
    if not spoken:
        return ""
    shown = spoken[:MOST_TALKS]
    note = f"<p>The first {MOST_TALKS} of {len(spoken)}.</p>" if len(spoken) > MOST_TALKS else ""
    return f"<h2>Dialogues</h2>{note}{''.join(_talk(dialogue) for dialogue in shown)}"


def _talk(dialogue: DrawnDialogue) -> str:
    """Write one dialogue; words come from people and models, so each is escaped."""
    rewards = dialogue.turn_rewards
    rows = ['<tr><th>turn</th><th>user</th><th>reply</th><th>levels</th><th class="n">reward</th></tr>']
    for turn, (user, reply) in enumerate(dialogue.talk[: len(rewards)]):
        is_judged = bool(dialogue.judged[turn])
        reward = f"{rewards[turn]:+.2f}" if is_judged else "not judged"
        rows.append(
            f"<tr><td>{turn + 1}</td><td>{escape(user)}</td><td>{escape(reply)}</td>"
            f'<td>{_levels(dialogue, turn) if is_judged else ""}</td><td class="n">{reward}</td></tr>'
        )
    distances = dialogue.distances
    summary = (
        f"{escape(dialogue.model)} · {escape(dialogue.scenario)} · {len(rewards)} turns · "
        f"{OUTCOME_NAMES[dialogue.outcome]} · distance {distances[0]:.1f} to {distances[-1]:.1f}"
    )
    return f'<details><summary>{summary}</summary><table class="talk">{"".join(rows)}</table></details>'


def _levels(dialogue: DrawnDialogue, turn: int) -> str:
    pairs = zip(AXES, dialogue.progress[turn], dialogue.regress[turn], strict=True)
    return " ".join(f"{axis}&nbsp;{up:+.0f}/{-down:.0f}".replace("/", "/−") for axis, up, down in pairs)
