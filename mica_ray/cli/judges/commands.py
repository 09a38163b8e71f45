"""`mica judges`: how far the judges behind every score can be trusted."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mica_ray.cli.judges.card import card_command
from mica_ray.cli.options import JsonFileOption, examples, save_json

if TYPE_CHECKING:
    from mica_ray.judges.agreement import Agreement
    from mica_ray.statistics import Interval

judges_app = typer.Typer(
    name="judges",
    help="Measure how reliable judges are.",
    epilog=examples(
        "mica judges agreement ratings.csv --json agreement.json",
        "mica judges card --judge vllm:MODEL runs/a",
    ),
    no_args_is_help=True,
)


judges_app.command(
    "card",
    epilog=examples(
        "mica judges card --judge vllm:MODEL runs/a",
        "mica judges card --judge vllm:MODEL recorded.jsonl --turns 12 --cards DIR",
    ),
)(card_command)


@judges_app.command(
    "agreement",
    epilog=examples(
        "mica judges agreement ratings.csv",
        "mica judges agreement ada.csv bob.csv --rating score --case dialogue",
        'mica judges agreement sheet.csv --labels "bad=-1,fair=0,good=1"',
    ),
)
def agreement_command(
    tables: Annotated[
        list[Path],
        typer.Argument(
            metavar="TABLE...",
            help="CSV: a row per rating, or a column per rater; or a file per rater, named after them.",
        ),
    ],
    item: Annotated[
        list[str] | None,
        typer.Option(metavar="COLUMN", help="Column that names the rated item; repeatable."),
    ] = None,
    rater: Annotated[str, typer.Option(metavar="COLUMN", help="Column that names the rater.")] = "",
    rating: Annotated[str, typer.Option(metavar="COLUMN", help="Column with the rating.")] = "",
    case: Annotated[
        str,
        typer.Option(
            metavar="COLUMN", help="Column of what the items belong to, which the bootstrap resamples."
        ),
    ] = "",
    labels: Annotated[
        str | None, typer.Option(metavar="LABEL=NUMBER,...", help="Numbers of ratings that are words.")
    ] = None,
    json_file: JsonFileOption = None,
) -> None:
    """Compute the agreement of raters in a table: alpha, kappa, signs and ICC.

    Columns are recognized by their names, such as judge, rater, score, severity, item_id.
    """
    from mica_ray.config.references import ConfigError
    from mica_ray.judges.agreement import agreement, agreement_record
    from mica_ray.judges.rating_table import Columns, RatingTableError, read_labels, read_ratings

    try:
        table = read_ratings(
            tables,
            Columns(item=tuple(item or ()), rater=rater, rating=rating, case=case),
            None if labels is None else read_labels(labels),
        )
    except RatingTableError as error:
        raise ConfigError(str(error)) from error
    found = agreement(table)
    _show(found, num_cases=len(set(table.cases)))
    save_json(json_file, agreement_record(found))


def _show(found: Agreement, *, num_cases: int) -> None:
    from mica_ray.reporting.drawing.text_table import TextTable

    rows = [
        ("Krippendorff's alpha, ordinal", _with_interval(found.alpha_ordinal)),
        ("Krippendorff's alpha, signs", _with_interval(found.alpha_sign)),
        ("items whose ratings differ in sign", _number(found.sign_disagreement)),
        *((f"quadratic kappa, {one} / {two}", _number(k)) for (one, two), k in found.kappa_quadratic.items()),
        ("ICC(2,1)", _number(found.icc)),
    ]
    TextTable("Agreement of raters", ("", "value"), tuple(rows)).show()
    print(
        f"{found.num_ratings} ratings of {found.num_items} items by {found.num_raters} raters; "
        f"95 % intervals resample {num_cases} cases."
    )


def _with_interval(interval: Interval) -> str:
    if interval.estimate != interval.estimate:
        return _number(interval.estimate)
    return f"{interval.estimate:.3f} [{interval.low:.3f}, {interval.high:.3f}]"


def _number(value: float) -> str:
    return "not defined" if value != value else f"{value:.3f}"
