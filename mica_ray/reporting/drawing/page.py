"""The HTML page of every report: one file that works offline, can be printed, and escapes all text.

Templates, styles and scripts are in templates/. The callers provide the content.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from markupsafe import Markup

if TYPE_CHECKING:
    from jinja2 import Environment
    from plotly.graph_objects import Figure

PLOT_HEIGHT = 360
"""Height in pixels of a figure without its own."""
_HARMLESS = {ord(mark): f"\\u{ord(mark):04x}" for mark in "<>&\u2028\u2029"}
_NO_WORD = re.compile(r"[^a-z0-9]+")


@dataclass(frozen=True, slots=True)
class Section:
    """One part of a page, listed in its table of contents."""

    title: str
    body: Markup
    """Result of `rendered`, `table`, `plotted` or `picture`, or several joined by `Markup().join`."""

    @property
    def anchor(self) -> str:
        """Element id that the table of contents links to."""
        return _NO_WORD.sub("-", self.title.lower()).strip("-") or "section"


def page(title: str, sections: Sequence[Section], *, lead: str = "", scripts: Sequence[str] = ()) -> str:
    """Return a page.

    Its content security policy allows no downloads and only the scripts listed here, by their digests. This
    is a second protection behind the escaping. plotly.js is included once if a section contains a figure.

    Args:
        title: title of the window and of the page.
        sections: sections in reading order, with different titles.
        lead: one or two sentences below the title.
        scripts: names of scripts in templates/.

    Raises:
        ValueError: two sections have the same anchor.
    """
    anchors = [section.anchor for section in sections]
    if len(set(anchors)) < len(anchors):
        raise ValueError(f"Titles of sections must differ in their letters and digits, got {anchors}.")
    texts = [_source(name) for name in scripts]
    if any('class="plot"' in section.body for section in sections):
        texts = [_plotly_script(), _source("plots.js"), *texts]
    values = {
        "title": title,
        "lead": lead,
        "sections": sections,
        "scripts": [Markup(text) for text in texts],
        "style": Markup(_source("page.css")),
        "policy": _policy(texts),
    }
    return str(rendered("page.html", values))


def rendered(template: str, values: Mapping[str, object]) -> Markup:
    """Fill a template of templates/. Every text in the values is escaped, except Markup."""
    return Markup(_environment().get_template(template).render(values))


def table(heads: Sequence[str], rows: Sequence[Sequence[str]], *, numbers: bool = True) -> Markup:
    """Return a table whose first column names the rows.

    Args:
        heads: column headings.
        rows: rows with one cell per heading.
        numbers: whether the cells after the first are numbers, which are right-aligned.

    Raises:
        ValueError: a row has a different number of cells.
    """
    if any(len(row) != len(heads) for row in rows):
        raise ValueError(f"Every row must have {len(heads)} cells, got {[len(row) for row in rows]}.")
    return rendered("table.html", {"heads": heads, "rows": rows, "numbers": numbers})


def plotted(figure: Figure, *, title: str, caption: str = "") -> Markup:
    """Return a plotly figure for a page, with a title above and a caption below.

    Args:
        figure: a figure as for `plot_area`, best without its own title.
        title: text above the figure, also for screen readers.
        caption: text below the figure.
    """
    area = plot_area(figure, label=title)
    return rendered("plot.html", {"title": title, "caption": caption, "area": area})


def side_by_side(
    figures: Mapping[str, Figure],
    *,
    title: str,
    caption: str = "",
    legend: Sequence[Mapping[str, str]] = (),
) -> Markup:
    """Return plotly figures for a page, in as many columns as the window has room for.

    Args:
        figures: figures as for `plot_area`, by the text above each.
        title: text above all figures.
        caption: text below all figures.
        legend: shared legend; "name", "colour" and "mark" of each curve.
    """
    panels = [
        {"title": name, "area": plot_area(figure, label=f"{title}: {name}")}
        for name, figure in figures.items()
    ]
    return rendered(
        "side_by_side.html", {"title": title, "caption": caption, "panels": panels, "legend": legend}
    )


def plot_area(figure: Figure, *, label: str) -> Markup:
    """Return a bare plotly figure for a page. templates/plots.js applies the colours and fonts of the page.

    plotly interprets some tags in names and texts: escape text of people and models (`html.escape`).

    Args:
        figure: a figure without colours of background, grid and text; its height is kept.
        label: text for screen readers.
    """
    # plotly's own JSON writes numpy arrays, and NaN as null.
    drawing = json.loads(figure.to_json() or "{}")
    height = drawing.get("layout", {}).get("height") or PLOT_HEIGHT
    return rendered("plot_area.html", {"label": label, "height": height, "drawing": script_json(drawing)})


def picture(png: bytes, *, title: str, caption: str = "") -> Markup:
    """Return a PNG for a page."""
    source = f"data:image/png;base64,{base64.b64encode(png).decode()}"
    return rendered("picture.html", {"source": source, "title": title, "caption": caption})


def script_json(value: object) -> Markup:
    """Return JSON for a <script type="application/json">; no text in it can end the element.

    Raises:
        ValueError: a number is not finite, which JSON cannot express.
    """
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return Markup(text.translate(_HARMLESS))


@cache
def _environment() -> Environment:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    return Environment(
        loader=PackageLoader("mica_ray.reporting.drawing"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _source(name: str) -> str:
    """Return a style or script of templates/ unchanged."""
    return Path(__file__).with_name("templates").joinpath(name).read_text(encoding="utf-8")


def _plotly_script() -> str:
    from plotly.offline import get_plotlyjs

    return get_plotlyjs()


def _policy(scripts: Sequence[str]) -> str:
    """Return the content security policy: styles and pictures inside the page, and exactly these scripts."""
    digests = [base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in scripts]
    allowed = " ".join(f"'sha256-{digest}'" for digest in digests) or "'none'"
    return f"default-src 'none'; img-src data: blob:; style-src 'unsafe-inline'; script-src {allowed}"
