"""The page of `mica credit`: credit estimators compared on recorded dialogues, turn by turn."""

from __future__ import annotations

import numpy as np
from markupsafe import Markup

from mica_ray.credit.returns import discounted_returns
from mica_ray.credit_study.comparison import CreditComparison
from mica_ray.credit_study.tables import CreditTable, credit_facts, credit_tables
from mica_ray.recordings.recorded_turns import RecordedTurns
from mica_ray.reporting.credit.figures import (
    bound_figure,
    correlation_figure,
    spike_figure,
    survivor_figure,
    turn_figure,
)
from mica_ray.reporting.drawing.page import Section, page, plotted, rendered, side_by_side, table

MOST_TALKS = 5
"""Number of dialogues shown turn by turn: those on which the estimators disagree most."""


def credit_page(stored: RecordedTurns, comparison: CreditComparison, *, settings: str, gamma: float) -> str:
    """Return the page as HTML. It works offline, and all text of dialogues is escaped.

    Args:
        stored: the dialogues.
        comparison: comparison of the estimators on them.
        settings: one sentence on the settings of the command.
        gamma: discount of the returns shown next to the dialogues.
    """
    facts = credit_facts(stored, comparison)
    bands, spikes, shares, correlations, bounds, by_turn = credit_tables(stored, comparison)
    rms = "multiples of the estimator's rms"
    sections = [
        Section("What was credited", _paragraphs((*facts, settings)) + _table(bands)),
        Section(
            "Turn by turn",
            plotted(
                turn_figure(comparison, comparison.mean_by_turn, y="mean A"),
                title="Mean advantage by turn",
                caption=f"In {rms}. A term that is compared at the same turn has mean 0 by construction. A "
                "trend means that turns are rewarded or penalized for their position in the dialogue.",
            )
            + plotted(
                turn_figure(comparison, comparison.rms_by_turn, y="rms of A"),
                title="Size of the advantage by turn",
                caption=f"Root mean square of A, in {rms}. Falls to 0 where groups have one dialogue left, "
                "which gets no credit.",
            )
            + plotted(
                survivor_figure(comparison),
                title="Dialogues left at each turn",
                caption="Dialogues with a judgement at each turn. A group with one dialogue left has "
                "nothing to compare.",
            )
            + _folded("Numbers by turn", by_turn),
        ),
        Section(
            "Spikes",
            _table(spikes)
            + plotted(
                spike_figure(comparison, stored.turns.valid),
                title="Distribution of large advantages",
                caption="A curve that reaches far to the right belongs to an estimator with few, very "
                "large advantages.",
            )
            + plotted(
                bound_figure(comparison),
                title="Samuelson's bound",
                caption="Each point is a set of turns compared with each other. The larger the set, the "
                "larger a z-score can be. The turn term compares few turns, the group term many.",
            )
            + _table(bounds),
        ),
        Section("Origin of credit", _table(shares)),
        Section(
            "Agreement",
            side_by_side(
                {
                    "Pearson's": correlation_figure(comparison.names, comparison.pearson),
                    "Spearman's, of ranks": correlation_figure(comparison.names, comparison.rank),
                },
                title="Correlation of advantages",
                caption="Over judged turns. Empty for an estimator that gives all turns the same value.",
            )
            + _folded("Table of correlations", correlations),
        ),
        Section("Where they disagree", _talks(stored, comparison, gamma=gamma)),
    ]
    return page(
        "Comparison of credit estimators", sections, lead=f"Estimators: {', '.join(comparison.names)}."
    )


def _paragraphs(texts: tuple[str, ...]) -> Markup:
    return Markup().join(Markup("<p>{}</p>").format(text) for text in texts)


def _table(laid: CreditTable) -> Markup:
    return (
        Markup("<h3>{}</h3>").format(laid.title)
        + table(laid.heads, laid.rows)
        + Markup('<p class="note">{}.</p>').format(laid.note)
    )


def _folded(summary: str, laid: CreditTable) -> Markup:
    return rendered("folded.html", {"summary": summary, "body": _table(laid)})


def _talks(stored: RecordedTurns, comparison: CreditComparison, *, gamma: float) -> Markup:
    order = np.argsort(-comparison.disagreement, kind="stable")
    returns = discounted_returns(stored.turns.rewards, stored.turns.valid, gamma=gamma)
    spoken = [row for row in order.tolist() if stored.dialogues[row].talk][:MOST_TALKS]
    if not spoken:
        return Markup("<p>The records contain no text.</p>")
    note = Markup('<p class="note">{}</p>').format(
        f"The {len(spoken)} dialogues with the largest standard deviation over the estimators (mean over "
        f"turns). Reward and return (gamma {gamma:g}) in points, advantages in multiples of each estimator's "
        "rms. A dash means that the judgement failed."
    )
    talks = [_talk(stored, comparison, row, returns[row]) for row in spoken]
    return note + rendered("credited_talks.html", {"names": comparison.names, "talks": talks})


def _talk(
    stored: RecordedTurns, comparison: CreditComparison, row: int, returns: np.ndarray
) -> dict[str, object]:
    dialogue = stored.dialogues[row]
    rewards = stored.turns.rewards[row]
    scale = np.array([one.rms or 1.0 for one in comparison.measures])
    credit = comparison.advantages[:, row] / scale[:, None]
    step = "" if dialogue.step is None else f" · step {dialogue.step}"
    turns: list[dict[str, object]] = []
    for turn, (user, reply) in enumerate(dialogue.talk[: len(dialogue.judged)]):
        numbers = [rewards[turn], returns[turn], *credit[:, turn]]
        is_judged = bool(dialogue.judged[turn])
        cells = [f"{value:+.2f}" if is_judged else "–" for value in numbers]
        turns.append({"turn": turn + 1, "user": user, "reply": reply, "numbers": cells})
    return {
        "summary": f"{dialogue.model} · {dialogue.scenario}{step} · {dialogue.num_turns} turns · "
        f"disagreement {comparison.disagreement[row]:.2f}",
        "turns": turns,
    }
