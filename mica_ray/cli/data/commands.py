"""`mica data`: check a folder of EMPA cards, rate and screen them, compare simulated users."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from mica_ray.cli.data.screen import screen_command
from mica_ray.cli.data.simulator import simulator_command
from mica_ray.cli.options import (
    JUDGE_VALUES,
    CardsArgument,
    InlineOption,
    JsonFileOption,
    RatingsOption,
    SetOption,
    examples,
    new_console,
    save_json,
)

if TYPE_CHECKING:
    from mica_ray.config import RunConfig
    from mica_ray.domains.empa.card_text import CardFlaw
    from mica_ray.domains.empa.cards import CardDeck, EpmCard
    from mica_ray.domains.empa.overlap import NearText
    from mica_ray.domains.empa.rater import RatingRun

_MAX_FLAWS = 3
"""Oddities of each kind that are printed; the JSON file holds all."""
_MAX_PAIRS = 5
"""Pairs of similar cards that are printed."""

data_app = typer.Typer(
    name="data",
    help="Check, rate and screen EMPA cards; compare simulated users with people.",
    epilog=examples("mica data check CARDS", "mica data rate CARDS --judge vllm:MODEL --out ratings.jsonl"),
    no_args_is_help=True,
)

data_app.command(
    "screen",
    epilog=examples(
        "mica data screen CARDS --policy MODEL --judge vllm:JUDGE --out screened.jsonl",
        "mica data screen CARDS --policy MODEL --judge vllm:JUDGE --samples 4 --passes 2",
    ),
)(screen_command)
data_app.command(
    "simulator",
    epilog=examples(
        "mica data simulator ESCONV runs/embedded-TIME --out simulator",
        "mica data simulator people.jsonl simulated.jsonl --speaker caller",
    ),
)(simulator_command)


@data_app.command("check")
def check_command(
    cards: CardsArgument,
    ratings: RatingsOption = None,
    json_file: JsonFileOption = None,
) -> None:
    """Count the cards by stratum, and list errors, oddities and near-copies of test cards.

    The exit code is 1 if a card has an error.
    """
    from mica_ray.domains.empa.cards import near_test_cards
    from mica_ray.launch.card_source import read_deck

    console = new_console()
    deck = read_deck(cards, ratings)
    near = near_test_cards(deck)
    console.print(_deck_table(deck))
    for flaw in deck.fatal:
        console.print(f"error  {flaw}", style="red", highlight=False, markup=False, soft_wrap=True)
    for line in _odd_lines(flaw for flaw in deck.flaws if not flaw.is_fatal):
        console.print(f"odd    {line}", highlight=False, markup=False, soft_wrap=True)
    for line in _near_lines(near):
        console.print(f"near   {line}", highlight=False, markup=False, soft_wrap=True)
    save_json(json_file, _deck_record(deck, near))
    if deck.fatal:
        raise typer.Exit(1)


@data_app.command("rate")
def rate_command(
    cards: CardsArgument,
    judge: Annotated[
        str,
        typer.Option(
            "--judge", help="The judge that rates: an endpoint as JSON, vllm:MODEL or module:CLASS."
        ),
    ],
    out: Annotated[
        Path,
        typer.Option("--out", metavar="FILE", help="JSON lines of ratings. Existing ratings are kept."),
    ],
    concurrency: Annotated[
        int, typer.Option("--concurrency", min=1, help="Cards that are rated at the same time.")
    ] = 8,
    limit: Annotated[int | None, typer.Option("--limit", min=1, help="Rate at most this many cards.")] = None,
    inline: InlineOption = False,
    sets: SetOption = None,
    json_file: JsonFileOption = None,
) -> None:
    """Rate the cards that have no initial state P_0, with a judge model."""
    from mica_ray.config import ConfigError, RunConfig
    from mica_ray.config.overrides import override, read_value
    from mica_ray.config.role_config import SCRIPTED
    from mica_ray.launch.card_source import read_deck

    values = {**JUDGE_VALUES, "roles.judge": read_value(judge)}
    config = override(RunConfig(), sets or (), values=values)
    if config.roles.judge == SCRIPTED:
        raise ConfigError(
            f"--judge {judge}: cannot rate cards. Name an endpoint, vllm:MODEL or module:CLASS."
        )
    # Without the ratings in `out`: rate_cards() itself skips the cards that this file already rates.
    deck = read_deck(cards)
    unrated = [card for card in deck.cards if card.given is None][:limit]
    console = new_console()
    done = asyncio.run(_rate(config, unrated, out, concurrency=concurrency, inline=inline, console=console))
    if done.failed and not done.rated:
        name, reason = done.failed[0]
        raise ConfigError(f"--judge {judge}: rated no card. First failure: {name}: {reason}")
    console.print(_rating_table(done, out))
    for name, reason in done.failed:
        console.print(f"failed {name}: {reason}", highlight=False, markup=False, soft_wrap=True)
    counts = {"rated": done.rated, "kept": done.kept, "not_asked": done.not_asked}
    save_json(json_file, {"out": str(out), **counts, "failed": dict(done.failed)})


async def _rate(
    config: RunConfig, cards: list[EpmCard], out: Path, *, concurrency: int, inline: bool, console: Console
) -> RatingRun:
    from mica_ray.cli.progress import new_bars
    from mica_ray.domains.empa.rater import CardRater, rate_cards
    from mica_ray.launch.start_world import judge_model

    with new_bars(console) as bars:
        task = bars.add_task("rate cards", total=len(cards))
        async with judge_model(config, inline=inline) as model:
            rater = CardRater(model, deadline_seconds=config.roles.deadline_seconds)
            return await rate_cards(
                cards, rater, out, concurrency=concurrency, progress=lambda: bars.advance(task)
            )


def _deck_table(deck: CardDeck) -> Table:
    rated = sum(card.given is not None for card in deck.cards)
    odd = sum(not flaw.is_fatal for flaw in deck.flaws)
    title = f"{len(deck.cards)} cards, {rated} with P_0, {len(deck.fatal)} errors, {odd} oddities"
    table = Table(title=title, box=SIMPLE_HEAD)
    for column in ("stratum", "value"):
        table.add_column(column, overflow="fold")
    for column in ("cards", "with P_0"):
        table.add_column(column, justify="right", no_wrap=True)
    for name, rows in _strata(deck).items():
        for place, (value, (count, with_state)) in enumerate(rows.items()):
            table.add_row("" if place else name, value, str(count), str(with_state))
    return table


def _strata(deck: CardDeck) -> dict[str, dict[str, tuple[int, int]]]:
    """Count all cards, and those with P_0, by stratum and value."""
    from mica_ray.evaluation.screening import STRATA

    kinds: Mapping[str, Callable[[EpmCard], str]] = {
        **STRATA,
        "difficulty": lambda card: card.difficulty or "unknown",
        "split": lambda card: "none, a copy" if card.copied_case else card.split,
        "P_0 from": lambda card: card.given.source if card.given else "nobody",
    }
    strata: dict[str, dict[str, tuple[int, int]]] = {}
    for name, value_of in kinds.items():
        cards = Counter(value_of(card) for card in deck.cards)
        rated = Counter(value_of(card) for card in deck.cards if card.given is not None)
        strata[name] = {value: (count, rated[value]) for value, count in sorted(cards.items())}
    return strata


def _odd_lines(flaws: Iterable[CardFlaw]) -> list[str]:
    """Return the first oddities of each kind, and how many more there are."""
    kinds: dict[tuple[str, str], list[CardFlaw]] = {}
    for flaw in flaws:
        is_card = "/" in flaw.file
        kinds.setdefault((flaw.field, "") if is_card else (flaw.file, flaw.problem.split()[0]), []).append(
            flaw
        )
    lines: list[str] = []
    for kind in kinds.values():
        lines += [str(flaw) for flaw in kind[:_MAX_FLAWS]]
        if len(kind) > _MAX_FLAWS:
            lines.append(f"... and {len(kind) - _MAX_FLAWS} more like this; --json FILE lists all")
    return lines


def _near_lines(near: Iterable[NearText]) -> list[str]:
    """Return every near-copy of a test card, and the most similar of the other cards."""
    found = list(near)
    copies = [pair for pair in found if pair.is_duplicate]
    return [
        f"{pair.name} shares {pair.shared_fraction:.0%} of its text with test card {pair.reference}"
        + (": a near-copy" if pair.is_duplicate else "")
        for pair in found[: max(len(copies), _MAX_PAIRS)]
    ]


def _deck_record(deck: CardDeck, near: tuple[NearText, ...]) -> dict[str, object]:
    def pair(item: NearText) -> dict[str, object]:
        return {"card": item.name, "test_card": item.reference, "shared_fraction": item.shared_fraction}

    def flaw(item: CardFlaw) -> dict[str, object]:
        return {"file": item.file, "field": item.field, "problem": item.problem, "remedy": item.remedy}

    return {
        "folder": str(deck.folder),
        "num_cards": len(deck.cards),
        "num_with_initial_state": sum(card.given is not None for card in deck.cards),
        "strata": {
            name: {
                value: {"cards": count, "with_initial_state": rated} for value, (count, rated) in rows.items()
            }
            for name, rows in _strata(deck).items()
        },
        "wrong": [flaw(item) for item in deck.flaws if item.is_fatal],
        "odd": [flaw(item) for item in deck.flaws if not item.is_fatal],
        "near_duplicates": [pair(item) for item in near if item.is_duplicate],
        "nearest": [pair(item) for item in near[:_MAX_PAIRS]],
    }


def _rating_table(done: RatingRun, out: Path) -> Table:
    table = Table(title=f"ratings in {out}", show_header=False)
    for name, count in (
        ("rated now", done.rated),
        ("rated before", done.kept),
        ("failed, left out", len(done.failed)),
        ("not asked: the judge is unreachable", done.not_asked),
    ):
        table.add_row(name, str(count))
    return table
