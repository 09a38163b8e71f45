"""`mica data simulator`: how far simulated users are from recorded people."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mica_ray.cli.options import new_console, writing

if TYPE_CHECKING:
    from rich.console import Console

    from mica_ray.simulators.comparison import SimulatorQuality

PAGE, RECORD = "simulator.html", "simulator.json"


def simulator_command(
    human: Annotated[
        Path,
        typer.Argument(
            metavar="HUMAN", help="Dialogues with people: JSON lines or a folder of them, such as ESConv's."
        ),
    ],
    simulated: Annotated[
        list[Path],
        typer.Argument(
            metavar="SIMULATED...", help="Dialogues with simulated users: run folders or files of dialogues."
        ),
    ],
    out: Annotated[
        Path, typer.Option("--out", metavar="DIR", help="Folder for the page, the figures and the JSON.")
    ] = Path("simulator"),
    messages: Annotated[
        int | None,
        typer.Option(
            "--messages", min=1, help="Compare so many messages of each dialogue. Default: the median."
        ),
    ] = None,
    draws: Annotated[
        int, typer.Option("--draws", min=20, help="Random halves of the people; more are more precise.")
    ] = 400,
    speaker: Annotated[
        list[str] | None,
        typer.Option("--speaker", metavar="NAME", help="Another name of the user's side in the files."),
    ] = None,
    across_languages: Annotated[
        bool,
        typer.Option(
            "--across-languages", help="Show sets in different languages, although they are not comparable."
        ),
    ] = False,
) -> None:
    """Compare simulated users with people, in units of the difference between people.

    Length, disclosure, resistance, repetition and lexical diversity of the user's messages; 1 means as far
    from people as another half of the people.
    """
    from mica_ray.config import ConfigError
    from mica_ray.recordings.recorded_dialogue import RecordingError
    from mica_ray.recordings.user_messages import read_user_messages
    from mica_ray.simulators.comparison import ComparisonError, compare_users

    console = new_console()
    names = speaker or ()
    try:
        with console.status("reading and comparing messages"):
            quality = compare_users(
                read_user_messages(human, speakers=names),
                [read_user_messages(path, speakers=names) for path in simulated],
                across_languages=across_languages,
                num_turns=messages,
                repeats=draws,
            )
    except (RecordingError, ComparisonError) as error:
        raise ConfigError(str(error)) from error
    _show(quality, console)
    with writing("--out", out):
        _write(quality, out)
    console.print(f"{out / PAGE}: opens offline; {out / RECORD}", highlight=False, soft_wrap=True)


def _write(quality: SimulatorQuality, folder: Path) -> None:
    from mica_ray.files import write_json, write_whole
    from mica_ray.reporting.drawing.line_chart import drawn_chart
    from mica_ray.reporting.simulators.figures import distance_figure, turn_chart
    from mica_ray.reporting.simulators.page import quality_record, simulator_page

    for figure in (distance_figure(quality), drawn_chart(turn_chart(quality))):
        write_whole(folder / f"{figure.name}.png", figure.png())
    write_json(folder / RECORD, quality_record(quality))
    write_whole(folder / PAGE, simulator_page(quality))


def _show(quality: SimulatorQuality, console: Console) -> None:
    from mica_ray.reporting.drawing.text_table import TextTable
    from mica_ray.reporting.simulators.page import GAP_HEADS, gap_rows, warnings_of

    people = quality.people
    console.print(
        f"{people.name}: {len(people.values)} dialogues with people; the first {quality.num_turns} messages "
        "of each dialogue are compared.",
        highlight=False,
        soft_wrap=True,
    )
    for one in quality.simulated:
        title = f"{one.users.name}: {len(one.users.values)} simulated dialogues"
        TextTable(title, GAP_HEADS, gap_rows(one.gaps, is_comparable=one.is_comparable)).show(console)
    for warning in warnings_of(quality):
        console.print(warning, highlight=False, soft_wrap=True)
