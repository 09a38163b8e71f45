"""Figure of the correlation that a judge's noise leaves, one panel per group size."""

from __future__ import annotations

from collections.abc import Sequence

from mica_ray.credit_study.noise.study import NoiseEffect
from mica_ray.reporting.drawing.canvas import BLUE, VERMILION, DrawnFigure, finished, panel_grid, plain, tidy


def draw_noise(effects: Sequence[NoiseEffect]) -> DrawnFigure:
    """Draw predicted correlations as lines and measured ones as points.

    Args:
        effects: one per group size, at least one, all with the same estimators.
    """
    names = list(effects[0].estimators)
    figure, panels = panel_grid(len(effects), row_height=0.32 * len(names) + 0.8)
    for panel, effect in zip(panels.flat, effects, strict=False):
        places = range(len(names))
        found = [effect.estimators[name] for name in names]
        predicted = [one.predicted for one in found]
        panel.plot(
            predicted, places, "|", color=VERMILION, markersize=14, markeredgewidth=2, label="predicted"
        )
        drawn = [(place, one.measured) for place, one in zip(places, found, strict=True) if one.measured]
        if drawn:
            panel.errorbar(
                [one.mean for _, one in drawn],
                [place for place, _ in drawn],
                xerr=[2 * one.error for _, one in drawn],
                fmt="o",
                color=BLUE,
                markersize=4,
                label="measured",
            )
        panel.set_yticks(list(places), [plain(name) for name in names])
        groups = "recorded groups" if effect.group_size is None else f"N = {effect.group_size}"
        tidy(panel, x="correlation", y="", title=f"{groups}, reward noise {effect.reward_sd:.2f}")
    panels.flat[0].invert_yaxis()
    panels.flat[0].legend(fontsize=8, loc="lower left", bbox_to_anchor=(0, 1.12), ncols=2, frameon=False)
    caption = (
        "Correlation over turns of advantages under a noisy judge with those without the noise; recorded "
        "judgements are the truth. Points: mean over drawn noise, with two standard errors."
    )
    return finished(figure, "credit_noise", title="What does noise of the judge leave of the credit?",
                    caption=caption)  # fmt: skip
