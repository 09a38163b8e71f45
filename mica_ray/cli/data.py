"""`mica data`: look through a folder of cards, and have the cards rated whose P_0 nobody has given."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from mica_ray.config import ConfigError, RunConfig
from mica_ray.config.overrides import override, read_value
from mica_ray.config.role_config import SCRIPTED
from mica_ray.domains.empa.card_text import CardFlaw
from mica_ray.domains.empa.cards import CardDeck, EpmCard, near_test_cards
from mica_ray.domains.empa.overlap import NearText
from mica_ray.domains.empa.rater import CardRater, RatingRun, rate_cards
from mica_ray.files import write_json
from mica_ray.launch.card_source import read_deck

_SHOWN = 3
"""Lines shown of each kind of oddity; the JSON file holds all."""
_NEAREST = 5
"""Pairs of cards shown."""

_STRATA: Mapping[str, Callable[[EpmCard], str]] = {
    "category": lambda card: card.category,
    "dominant axis": lambda card: card.dominant_axis or "unknown",
    "difficulty": lambda card: card.difficulty or "unknown",
    "empathy threshold": lambda card: card.text.threshold,
    "split": lambda card: "none, a copy" if card.copied_case else card.split,
    "P_0 from": lambda card: card.given.source if card.given else "nobody",
}


def run_check(cards: str, *, ratings: Path | None, json_file: Path | None) -> bool:
    """Print what is in a folder of cards and what is wrong or odd in it; say whether it can be trained on.

    Raises:
        ConfigError: there is no such folder.
    """
    console = Console()
    deck = read_deck(cards, ratings)
    near = near_test_cards(deck)
    console.print(_deck_table(deck))
    for flaw in deck.fatal:
        console.print(f"wrong  {flaw}", style="red", highlight=False, markup=False, soft_wrap=True)
    for line in _odd_lines(flaw for flaw in deck.flaws if not flaw.is_fatal):
        console.print(f"odd    {line}", highlight=False, markup=False, soft_wrap=True)
    for line in _near_lines(near):
        console.print(f"near   {line}", highlight=False, markup=False, soft_wrap=True)
    if json_file is not None:
        write_json(json_file, _deck_record(deck, near))
    return not deck.fatal


def run_rate(
    cards: str,
    *,
    judge: str,
    out: Path,
    concurrency: int,
    limit: int | None,
    inline: bool,
    json_file: Path | None,
) -> None:
    """Have a judge rate the cards without P_0, and print what came of it.

    Raises:
        ConfigError: no such cards or judge, or not one card could be rated.
    """
    config = override(RunConfig(), [], values={"roles.judge": read_value(judge)})
    if config.roles.judge == SCRIPTED:
        raise ConfigError(f"--judge {judge}: rates no cards; name an endpoint, vllm:MODEL or module:CLASS")
    # Ratings of an earlier run are not "given": what is in the file is passed over there, card by card.
    deck = read_deck(cards)
    wanted = [card for card in deck.cards if card.given is None][:limit]
    console = Console()
    done = asyncio.run(_rate(config, wanted, out, concurrency=concurrency, inline=inline, console=console))
    if done.failed and not done.rated:
        raise ConfigError(f"--judge {judge}: rated no card; {done.failed[0][0]}: {done.failed[0][1]}")
    console.print(_rating_table(done, out))
    for name, reason in done.failed:
        console.print(f"failed {name}: {reason}", highlight=False, markup=False, soft_wrap=True)
    if json_file is not None:
        record = {"rated": done.rated, "kept": done.kept, "not_asked": done.not_asked}
        write_json(json_file, {"out": str(out), **record, "failed": dict(done.failed)})


async def _rate(
    config: RunConfig, cards: list[EpmCard], out: Path, *, concurrency: int, inline: bool, console: Console
) -> RatingRun:
    from mica_ray.launch.start_world import judge_model

    columns = (TextColumn("rate cards"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task("rate cards", total=len(cards))
        async with judge_model(config, inline=inline) as model:
            rater = CardRater(model, deadline_seconds=config.roles.deadline_seconds)
            return await rate_cards(
                cards, rater, out, concurrency=concurrency, progress=lambda: bar.advance(task)
            )


def _deck_table(deck: CardDeck) -> Table:
    from rich.box import SIMPLE_HEAD

    known = sum(card.given is not None for card in deck.cards)
    odd = sum(not flaw.is_fatal for flaw in deck.flaws)
    title = f"{len(deck.cards)} cards, {known} with P_0, {len(deck.fatal)} wrong and {odd} odd things"
    table = Table("", "", "cards", "with P_0", title=title, box=SIMPLE_HEAD)
    for name, rows in _strata(deck).items():
        for place, (value, (count, with_state)) in enumerate(rows.items()):
            table.add_row("" if place else name, value, str(count), str(with_state))
    return table


def _strata(deck: CardDeck) -> dict[str, dict[str, tuple[int, int]]]:
    """Count cards, and those with P_0, by stratum and value."""
    strata: dict[str, dict[str, tuple[int, int]]] = {}
    for name, of in _STRATA.items():
        cards = Counter(of(card) for card in deck.cards)
        known = Counter(of(card) for card in deck.cards if card.given is not None)
        strata[name] = {value: (count, known[value]) for value, count in sorted(cards.items())}
    return strata


def _odd_lines(flaws: Iterable[CardFlaw]) -> list[str]:
    """Give the first oddities of each kind, and how many more there are."""
    kinds: dict[tuple[str, str], list[CardFlaw]] = {}
    for flaw in flaws:
        is_card = "/" in flaw.file
        kinds.setdefault((flaw.field, "") if is_card else (flaw.file, flaw.problem.split()[0]), []).append(
            flaw
        )
    lines: list[str] = []
    for kind in kinds.values():
        lines += [str(flaw) for flaw in kind[:_SHOWN]]
        if len(kind) > _SHOWN:
            lines.append(f"... and {len(kind) - _SHOWN} more like this; --json FILE names all")
    return lines


def _near_lines(near: Iterable[NearText]) -> list[str]:
    """Give every near-duplicate of a test card, and the nearest others."""
    found = list(near)
    copies = [pair for pair in found if pair.is_duplicate]
    return [
        f"{pair.name} shares {pair.shared_fraction:.0%} of its text with test card {pair.reference}"
        + (": a near-duplicate" if pair.is_duplicate else "")
        for pair in found[: max(len(copies), _NEAREST)]
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
                value: {"cards": count, "with_initial_state": known} for value, (count, known) in rows.items()
            }
            for name, rows in _strata(deck).items()
        },
        "wrong": [flaw(item) for item in deck.flaws if item.is_fatal],
        "odd": [flaw(item) for item in deck.flaws if not item.is_fatal],
        "near_duplicates": [pair(item) for item in near if item.is_duplicate],
        "nearest": [pair(item) for item in near[:_NEAREST]],
    }


def _rating_table(done: RatingRun, out: Path) -> Table:
    table = Table(title=f"ratings in {out}", show_header=False)
    for name, count in (
        ("rated now", done.rated),
        ("rated before", done.kept),
        ("failed, left out", len(done.failed)),
        ("not asked: the judge is out of reach", done.not_asked),
    ):
        table.add_row(name, str(count))
    return table
