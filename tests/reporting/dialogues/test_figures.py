"""The pictures show the numbers of the dialogues, and no text of a model runs in the page."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure

from mica_ray.reporting.dialogues.figures import REPORT_NAME, figure_makers, write_figures
from mica_ray.reporting.dialogues.layout import MOST_PATHS, OUTCOME_COLOURS
from mica_ray.reporting.dialogues.models import alignment_score_figure, comparison_figure, success_figure
from mica_ray.reporting.dialogues.paths import distance_figure, state_path_figure
from mica_ray.reporting.dialogues.turns import alignment_figure, reward_figure
from mica_ray.reporting.drawing.canvas import plain
from tests.reporting.dialogues.drawn import drawn

DIALOGUES = (
    drawn(scenario="one", outcome="success", dominant_axis="C"),
    drawn(scenario="two", outcome="failure", dominant_axis="C"),
    drawn(scenario="three", model="other", path=((-5, 0, 0), (-6, 0, 0)), outcome="open", dominant_axis="A"),
)


def lines_of(figure: Figure, panel: int, label: str) -> list[np.ndarray]:
    """Return the points [n, 2] of the lines with a label in a panel."""
    return [line.get_xydata() for line in figure.axes[panel].get_lines() if line.get_label() == label]  # type: ignore[misc]


def test_distance_panel_has_one_line_a_dialogue_with_its_values_and_its_ending() -> None:
    figure = distance_figure(DIALOGUES).figure
    (line,) = lines_of(figure, 0, "one")
    np.testing.assert_allclose(line, [[0, 4], [1, 1], [2, 1]])
    colours = {line.get_label(): line.get_color() for line in figure.axes[0].get_lines()}
    assert colours == {"one": OUTCOME_COLOURS["success"], "two": OUTCOME_COLOURS["failure"]}
    assert figure.axes[0].get_title() == "m: 1 of 2 succeed"
    # Both panels show the same range, and all of it: the farthest point is at distance 5.
    assert figure.axes[0].get_ylim() == figure.axes[1].get_ylim()
    assert figure.axes[0].get_ylim()[1] > 5


def test_state_paths_are_drawn_in_space_and_in_three_projections_per_model() -> None:
    figure = state_path_figure(DIALOGUES).figure
    assert len(figure.axes) == 2 * 4
    np.testing.assert_allclose(lines_of(figure, 1, "one")[0], [[-5, 0], [-2, 0], [-2, -1]])  # C against A
    np.testing.assert_allclose(lines_of(figure, 3, "one")[0], [[0, 0], [0, 0], [-1, 0]])  # A against P


def test_rewards_and_returns_are_means_of_their_model() -> None:
    figure = reward_figure(DIALOGUES, gamma=1.0).figure
    np.testing.assert_allclose(lines_of(figure, 0, "m")[0], [[1, 3], [2, 0]])
    np.testing.assert_allclose(lines_of(figure, 0, "other")[0], [[1, -1]])  # distance 4 to 5
    np.testing.assert_allclose(lines_of(figure, 1, "m")[0], [[1, 3], [2, 0]])


def test_alignment_panel_has_a_line_an_axis_and_their_sum() -> None:
    figure = alignment_figure(DIALOGUES).figure
    # v* is C alone: the first move has cosine 1, the second, along A, has 0.
    np.testing.assert_allclose(lines_of(figure, 0, "C, cognitive")[0], [[1, 1], [2, 0]])
    np.testing.assert_allclose(lines_of(figure, 0, "all, cos(v, v*)")[0], [[1, 1], [2, 0]])
    np.testing.assert_allclose(lines_of(figure, 1, "all, cos(v, v*)")[0], [[1, -1]])


def test_success_bars_are_shares_of_their_stratum() -> None:
    figure = success_figure(DIALOGUES).figure
    bars = figure.axes[0].patches
    # One of two dialogues of "m" with dominant axis C; "other" has one dialogue, on A.
    assert [bar.get_height() for bar in bars] == [50, 0]  # type: ignore[attr-defined]
    assert {text.get_text() for text in figure.axes[0].texts} == {"1/2", "0/1"}


def test_every_dialogue_is_one_marker_of_the_alignment_figure() -> None:
    figure = alignment_score_figure(DIALOGUES).figure
    values = [line.get_ydata() for line in figure.axes[0].get_lines() if line.get_marker() in ("o", "s")]
    # Cosines 0 (start), 1, 0 -> (1/3 + 1) / 2; and 0, -1 -> (-1/2 + 1) / 2.
    np.testing.assert_allclose(np.concatenate(values), [66.6667, 66.6667, 25], rtol=1e-4)


def test_comparison_names_every_model_and_index() -> None:
    figure = comparison_figure(DIALOGUES).figure
    assert [text.get_text() for text in figure.axes[0].get_yticklabels()] == ["other", "m"]
    assert len(figure.axes[2].get_yticklabels()) == 9
    assert len(lines_of(figure, 2, "m")[0]) == 9


@pytest.mark.parametrize("number", range(len(figure_makers())))
def test_every_caption_tells_the_number_of_dialogues_by_model(number: int) -> None:
    drawn_figure = figure_makers()[number](DIALOGUES)
    assert "n = 3 dialogues (m 2, other 1)." in drawn_figure.caption
    written = " ".join(" ".join(text.get_text() for text in drawn_figure.figure.texts).split())
    assert "n = 3 dialogues" in written and drawn_figure.title in written


def test_more_paths_than_can_be_seen_are_thinned_and_it_is_said() -> None:
    many = [drawn(scenario=str(number)) for number in range(MOST_PATHS + 50)]
    figure = distance_figure(many)
    assert len(figure.figure.axes[0].get_lines()) == MOST_PATHS
    assert f"At most {MOST_PATHS} paths per model are drawn" in figure.caption
    assert f"n = {MOST_PATHS + 50} dialogues" in figure.caption


def test_names_from_files_are_drawn_as_they_are() -> None:
    assert plain("a $x_1$\nb") == r"a \$x_1\$ b"
    assert len(plain("x" * 100)) == 32
    # Unescaped, this is a formula that does not parse, and drawing raises.
    strange = drawn(model=r"\frac{$ <script>", scenario="$x^$")
    for draw in figure_makers():
        assert draw([strange]).png(dpi=20).startswith(b"\x89PNG")


HOSTILE = "<script>alert('x')</script><img src=x onerror=alert(1)> & \"quoted\""


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with all figures of a hostile model's dialogue, whose second turn has no judgement."""
    folder = tmp_path_factory.mktemp("report") / "out"
    dialogue = drawn(
        model=HOSTILE,
        scenario=HOSTILE,
        talk=((HOSTILE, HOSTILE), ("so", "yes")),
        judged=np.array([True, False]),
    )
    paths = write_figures([dialogue], folder)
    assert paths[-1].name == REPORT_NAME
    # No incomplete file is left.
    assert {path.name for path in folder.iterdir()} == {path.name for path in paths}
    return folder


def test_files_are_written_whole_and_the_page_needs_nothing_else(report: Path) -> None:
    pictures = sorted(report.glob("*.png"))
    assert len(pictures) == 7
    # A blank picture of this size has about 4 kB.
    assert all(picture.stat().st_size > 15_000 for picture in pictures)
    page = (report / REPORT_NAME).read_text(encoding="utf-8")
    assert page.count("data:image/png;base64,") == 7
    assert not re.search(r'(?:src|href)="(?!data:image/png|#)', page)
    assert 'http-equiv="Content-Security-Policy" content="default-src &#39;none&#39;' in page


def test_words_of_models_show_as_text_and_run_nothing(report: Path) -> None:
    page = (report / REPORT_NAME).read_text(encoding="utf-8")
    assert "<script" not in page and "<img src" not in page
    # In the table of scores, in the summary, and as what each side said.
    assert page.count("&lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt;") >= 5


def test_turn_without_a_judgement_says_so_in_the_talk(report: Path) -> None:
    page = (report / REPORT_NAME).read_text(encoding="utf-8")
    assert page.count("not judged") == 1
    assert "+3.00" in page


def test_nothing_to_draw_and_impossible_discounts_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no dialogues to draw"):
        write_figures((), tmp_path)
    with pytest.raises(ValueError, match=r"gamma must be in \[0, 1\], got 1\.5"):
        write_figures(DIALOGUES, tmp_path, gamma=1.5)
