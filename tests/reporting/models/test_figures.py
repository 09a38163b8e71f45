"""The figures show the numbers of their models."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure

from mica_ray.reporting.drawing.table_picture import table_picture
from mica_ray.reporting.drawing.text_table import TextTable
from mica_ray.reporting.models.figures import learning_and_components, model_figures
from mica_ray.reporting.models.results import BenchmarkResult, ModelResults

PARTS = {
    "epm_q": {"a": 50.0, "b": 70.0},
    "outcome": {"a": 10.0, "b": 30.0},
    "efficiency": {"a": 40.0, "b": 40.0},
    "stability": {"a": 80.0, "b": 100.0},
}
SCORED = ModelResults("$x$", (BenchmarkResult("empa", Path("x"), PARTS, 2, 0),))
TRAINED = ModelResults("mixed", curves=({0: 10.0, 5: 30.0, 9: 1.0}, {0: 20.0, 5: 50.0}))


def curves(figure: Figure, panel: int) -> list[np.ndarray]:
    return [np.asarray(line.get_xydata()) for line in figure.axes[panel].get_lines()]


def test_curve_is_the_mean_of_the_runs_at_common_steps() -> None:
    drawn = learning_and_components([SCORED, TRAINED])
    assert drawn is not None
    np.testing.assert_allclose(curves(drawn.figure, 0)[0], [[0, 15], [5, 40]])


def test_bars_are_the_means_of_the_components_over_cases() -> None:
    drawn = learning_and_components([TRAINED, SCORED])
    assert drawn is not None
    heights = [patch.get_height() for patch in drawn.figure.axes[1].patches]  # pyright: ignore
    assert heights == pytest.approx([20.0, 40.0, 90.0])
    assert b"PNG" in drawn.png()[:8]


def test_models_without_results_have_no_figure() -> None:
    assert model_figures([ModelResults("m")]) == ()


def test_picture_of_a_table_has_every_cell() -> None:
    table = TextTable("T", ("model", "EMPA score"), ((r"a$b\c", "1.0 [0.5, 1.5]"), ("d", "-")))
    drawn = table_picture([table, table], "table", caption="costs $5 and $6")
    texts = [[text.get_text() for text in axes.texts] for axes in drawn.figure.axes]
    assert texts[0] == ["model", "EMPA\nscore", r"a\$b/c", "1.0\n[0.5, 1.5]", "d", "-"] == texts[1]
    assert b"PNG" in drawn.png()[:8]
