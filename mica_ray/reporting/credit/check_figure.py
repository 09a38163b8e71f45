"""Figure of credit against the measured value of replies, one panel per estimator."""

from __future__ import annotations

import numpy as np

from mica_ray.credit_study.agreement import CreditCheck
from mica_ray.credit_study.measures import root_mean_square
from mica_ray.reporting.drawing.canvas import BLUE, GREY, DrawnFigure, finished, panel_grid, tidy


def draw_credit_check(outcome: CreditCheck) -> DrawnFigure:
    """Draw every sampled turn: credit in multiples of the estimator's rms, value with its error."""
    figure, panels = panel_grid(len(outcome.estimators), row_height=3.0)
    worth = np.array([turn.difference for turn in outcome.turns])
    errors = np.array([turn.error for turn in outcome.turns])
    for panel, (name, row) in zip(panels.flat, outcome.estimators.items(), strict=False):
        credit = np.array([turn.credit[name] for turn in outcome.turns])
        panel.axhline(0, color=GREY, linewidth=0.8)
        panel.axvline(0, color=GREY, linewidth=0.8)
        panel.errorbar(
            credit / (root_mean_square(credit) or 1.0),
            worth,
            yerr=errors,
            fmt="o",
            color=BLUE,
            ecolor=GREY,
            markersize=4,
            elinewidth=0.8,
        )
        fit = row.pearson
        tidy(
            panel,
            x="credit / rms",
            y="measured value (points)",
            title=f"{name}\nr = {fit.estimate:.2f} [{fit.low:.2f}, {fit.high:.2f}]",
        )
    caption = (
        f"{len(outcome.turns)} turns of recorded dialogues. Value: mean return after the recorded reply "
        "minus mean return after other replies of the policy in the same situation. Bars: one standard "
        f"error. Correct credit rises with value. Reliability: {outcome.reliability:.0%} of the variance of "
        "the value is not noise of the rollouts."
    )
    return finished(
        figure, "credit_check", title="Does the credit match the measured value of a reply?", caption=caption
    )
