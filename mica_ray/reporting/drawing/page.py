"""The HTML page of every report: one file that opens offline, prints, and escapes every text it is given.

Templates, styles and scripts lie in templates/. What stands in a page is up to whoever writes it.
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
"""Pixels of a figure that names no height."""
_HARMLESS = {ord(mark): f"\\u{ord(mark):04x}" for mark in "<>&\u2028\u2029"}
_NO_WORD = re.compile(r"[^a-z0-9]+")


@dataclass(frozen=True, slots=True)
class Section:
    """One part of a page, named in its table of contents."""

    title: str
    body: Markup
    """From `rendered`, `table`, `plotted`, `picture`, or several of them joined by `Markup().join`."""

    @property
    def anchor(self) -> str:
        """The name by which the table of contents finds it."""
        return _NO_WORD.sub("-", self.title.lower()).strip("-") or "section"


def page(title: str, sections: Sequence[Section], *, lead: str = "", scripts: Sequence[str] = ()) -> str:
    """Write a page.

    It may load nothing, and runs only the scripts given here, known by their digests: a second lock behind
    the escaping. plotly.js comes in once, where a section holds a figure.

    Args:
        title: of the window and of the page.
        sections: in reading order; their titles differ.
        lead: one or two sentences below the title.
        scripts: names of own scripts in templates/.

    Raises:
        ValueError: two sections have the same anchor.
    """
    anchors = [section.anchor for section in sections]
    if len(set(anchors)) < len(anchors):
        raise ValueError(f"titles of sections must differ in their letters and digits; got {anchors}")
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
    """Fill a template of templates/; every text in the values is escaped, Markup alone is not."""
    return Markup(_environment().get_template(template).render(values))


def table(heads: Sequence[str], rows: Sequence[Sequence[str]], *, numbers: bool = True) -> Markup:
    """Lay out a table; the first column names the rows.

    Args:
        heads: one per column.
        rows: as many cells as heads.
        numbers: whether the cells behind the first are numbers, and stand to the right.

    Raises:
        ValueError: a row has another number of cells.
    """
    if any(len(row) != len(heads) for row in rows):
        raise ValueError(f"every row must have {len(heads)} cells; got {[len(row) for row in rows]}")
    return rendered("table.html", {"heads": heads, "rows": rows, "numbers": numbers})


def plotted(figure: Figure, *, title: str, caption: str = "") -> Markup:
    """Put a plotly figure in a page, with a title above and a caption below.

    Args:
        figure: as `plot_area` takes it; its own title is better left out.
        title: above it, and what a reader of screens is told.
        caption: below it.
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
    """Put plotly figures that belong together in a page, in columns as far as the window has room.

    Args:
        figures: by what stands above each, as `plot_area` takes them.
        title: above all of them.
        caption: below them.
        legend: one for all of them; of each line its name, colour and mark.
    """
    panels = [
        {"title": name, "area": plot_area(figure, label=f"{title}: {name}")}
        for name, figure in figures.items()
    ]
    return rendered(
        "side_by_side.html", {"title": title, "caption": caption, "panels": panels, "legend": legend}
    )


def plot_area(figure: Figure, *, label: str) -> Markup:
    """Put a plotly figure in a page, bare; the page's colours and fonts are taken (templates/plots.js).

    plotly reads some tags in names and texts: escape what people or models wrote (`html.escape`).

    Args:
        figure: without colours of ground, grid and text; its height is kept.
        label: what a reader of screens is told.
    """
    # Through plotly's own JSON: it writes numpy arrays, and NaN as null.
    drawing = json.loads(figure.to_json() or "{}")
    height = drawing.get("layout", {}).get("height") or PLOT_HEIGHT
    return rendered("plot_area.html", {"label": label, "height": height, "drawing": script_json(drawing)})


def picture(png: bytes, *, title: str, caption: str = "") -> Markup:
    """Put a PNG in a page."""
    source = f"data:image/png;base64,{base64.b64encode(png).decode()}"
    return rendered("picture.html", {"source": source, "title": title, "caption": caption})


def script_json(value: object) -> Markup:
    """Write JSON for a <script type="application/json">: no text in it can end the element.

    Raises:
        ValueError: a number is not finite, which JSON cannot write.
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
    """Give a style or script of templates/ as it stands."""
    return Path(__file__).with_name("templates").joinpath(name).read_text(encoding="utf-8")


def _plotly_script() -> str:
    from plotly.offline import get_plotlyjs

    return get_plotlyjs()


def _policy(scripts: Sequence[str]) -> str:
    """Give the content security policy: styles and pictures inside the page, and these very scripts."""
    digests = [base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in scripts]
    allowed = " ".join(f"'sha256-{digest}'" for digest in digests) or "'none'"
    return f"default-src 'none'; img-src data: blob:; style-src 'unsafe-inline'; script-src {allowed}"
