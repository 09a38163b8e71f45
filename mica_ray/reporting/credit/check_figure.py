"""Credit against the measured worth of replies, a panel for each estimator."""

from __future__ import annotations

import numpy as np

from mica_ray.credit_study.agreement import CreditCheck
from mica_ray.credit_study.measures import root_mean_square
from mica_ray.reporting.drawing.canvas import BLUE, GREY, DrawnFigure, finished, model_panels, tidy


def draw_credit_check(outcome: CreditCheck) -> DrawnFigure:
    """Draw every sampled turn: credit in multiples of its estimator's own size, worth with its error."""
    figure, panels = model_panels(len(outcome.estimators), row_height=3.0)
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
            x="credit / its rms",
            y="measured worth, points",
            title=f"{name}\nr = {fit.estimate:.2f} [{fit.low:.2f}, {fit.high:.2f}]",
        )
    caption = (
        f"{len(outcome.turns)} turns of real dialogues. Worth: mean return after the stored reply less that "
        "after other replies of the policy at the same place; bars: one standard error. Right credit rises "
        f"with worth. {outcome.reliability:.0%} of the variance of worth is no noise of the rollouts."
    )
    return finished(figure, "credit_check", title="Is the credit true?", caption=caption)
