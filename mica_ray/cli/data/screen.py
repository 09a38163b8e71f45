"""`mica data screen`: drop the cards with which a strong policy does not succeed."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mica_ray.cli.options import (
    ActorOption,
    CardsArgument,
    DirectorOption,
    InlineOption,
    JsonFileOption,
    JudgeOption,
    PolicyOption,
    RatingsOption,
    SetOption,
    TrustOption,
    new_console,
    save_json,
    writing,
)

if TYPE_CHECKING:
    from rich.console import Console

    from mica_ray.chat.ledger import Ledger
    from mica_ray.cli.empa import PolicyUnderTest
    from mica_ray.domains.empa.cards import CardDeck
    from mica_ray.evaluation.screening import Screening, ScreenRule
    from mica_ray.launch.domain_source import RunDomain
    from mica_ray.types import Scenario, Trajectory

_MAX_FAILURES = 3
"""Failed dialogues that are printed; failed.jsonl holds all."""


@dataclass(frozen=True, slots=True)
class _Screened:
    """What was screened, and with which outcome."""

    deck: CardDeck
    screening: Screening
    official: tuple[Scenario, ...]
    out: Path

    @property
    def kept(self) -> tuple[Scenario, ...]:
        """The scenarios of the kept cards, in the order of their ids."""
        verdicts = self.screening.verdicts
        return tuple(each for each in self.screening.scenarios if verdicts[each.id] == "kept")


def screen_command(
    cards: CardsArgument,
    policy: PolicyOption,
    judge: JudgeOption,
    actor: ActorOption = None,
    director: DirectorOption = None,
    samples: Annotated[int, typer.Option("--samples", min=1, help="Dialogues per card at most.")] = 1,
    passes: Annotated[
        int, typer.Option("--passes", min=1, help="Keep a card with at least this many successes.")
    ] = 1,
    unjudged: Annotated[
        float,
        typer.Option(
            "--unjudged-fraction",
            help="A dialogue without success in which more turns have no judgement is played again.",
        ),
    ] = 0.0,
    limit: Annotated[
        int | None, typer.Option("--limit", min=1, help="Screen at most this many cards.")
    ] = None,
    ratings: RatingsOption = None,
    out: Annotated[
        Path,
        typer.Option(metavar="FILE", help="The kept cards, for `scenarios_file`. Dialogues are next to it."),
    ] = Path("screened.jsonl"),
    with_official: Annotated[
        bool,
        typer.Option("--with-official", help="Also write the official cases, unplayed, as test scenarios."),
    ] = False,
    inline: InlineOption = False,
    sets: SetOption = None,
    json_file: JsonFileOption = None,
    trust: TrustOption = False,
) -> None:
    """Keep the training and validation cards with which a strong policy succeeds.

    Official cases are not played. Every finished dialogue is kept: the same command plays only what is
    missing, and what failed.
    """
    from mica_ray.chat.ledger import Ledger
    from mica_ray.cli.empa import DOMAIN, benchmark_values, read_policy, role_values
    from mica_ray.config import ConfigError
    from mica_ray.evaluation.costs import cost_table
    from mica_ray.evaluation.screening import ScreenRule
    from mica_ray.launch.domain_source import read_domain

    console, ledger = new_console(), Ledger()
    try:
        rule = ScreenRule(samples, passes, unjudged)
    except ValueError as error:
        raise ConfigError(str(error)) from error
    values: dict[str, object] = {
        **role_values(judge, actor, director),
        **benchmark_values(DOMAIN, Path(cards)),
        "card_ratings": None if ratings is None else str(ratings),
    }
    tested = read_policy(policy, values, sets or ())
    loaded = read_domain(tested.config)
    screened = _prepared(tested, loaded, rule, limit=limit, out=out)
    _play(tested, loaded, screened.screening, console, inline=inline, ledger=ledger)
    _write(screened, with_official=with_official)
    _show(screened, console, json_file)
    if ledger.totals():
        console.print(cost_table("Calls and costs of this command", ledger.totals()))
    if not screened.kept:
        raise typer.Exit(1)


def _prepared(
    tested: PolicyUnderTest, loaded: RunDomain, rule: ScreenRule, *, limit: int | None, out: Path
) -> _Screened:
    """Open the folder of the dialogues, and choose the cards to screen.

    Raises:
        ConfigError: there is no card to screen, or the folder has dialogues that were played otherwise.
    """
    from mica_ray.config import ConfigError
    from mica_ray.evaluation.screening import Screening
    from mica_ray.launch.benchmark import dialogue_settings
    from mica_ray.recordings.case_log import CaseLog, CaseLogError

    if tested.config.allow_test_cards or loaded.deck is None:
        raise ConfigError("mica data screen needs cards, and no official ones. Remove these keys from --set.")
    scenarios = sorted(
        (*loaded.played.split("train"), *loaded.played.split("valid")), key=lambda each: each.id
    )[:limit]
    if not scenarios:
        raise ConfigError(
            f"cards {tested.config.cards}: every card with a P_0 is an official EMPA test case. "
            "Rate more cards with `mica data rate`."
        )
    settings = {
        **dialogue_settings(tested.name, tested.config),
        "unjudged_fraction": rule.unjudged_fraction,
    }
    try:
        log = CaseLog(out.with_name(f"{out.stem}-dialogues"), model=tested.name, settings=settings)
    except CaseLogError as error:
        raise ConfigError(str(error)) from error
    return _Screened(loaded.deck, Screening(scenarios, rule, log), loaded.played.split("test"), out)


def _play(
    tested: PolicyUnderTest,
    loaded: RunDomain,
    screening: Screening,
    console: Console,
    *,
    inline: bool,
    ledger: Ledger,
) -> None:
    """Play rounds until every card is decided, or every dialogue that is missing was tried once."""
    from mica_ray.cli.progress import new_bars
    from mica_ray.launch.benchmark import play_rounds

    first = screening.next_cases()
    if not first:
        console.print("Every card is decided; nothing is played.", highlight=False)
        return
    rounds = iter([first])
    with new_bars(console) as bars:
        task = bars.add_task("screen cards", total=len(screening.scenarios))

        def record(trajectory: Trajectory) -> None:
            screening.log.record(screening.rule.evidence(trajectory))
            counts = Counter(screening.verdicts.values())
            decided = counts["kept"] + counts["dropped"]
            words = f"{counts['kept']} kept, {counts['dropped']} dropped"
            if screening.log.failed:
                words += f", {len(screening.log.failed)} dialogues failed"
            bars.update(task, completed=decided, description=f"screen cards: {words}")
            if not console.is_terminal:
                console.print(f"{decided}/{len(screening.scenarios)} cards: {words}", highlight=False)

        played = play_rounds(
            tested.config,
            loaded,
            lambda: next(rounds, None) or screening.next_cases(),
            record,
            text_policy=tested.text,
            inline=inline,
            ledger=ledger,
        )
        asyncio.run(played)


def _write(screened: _Screened, *, with_official: bool) -> None:
    """Write the scenarios of the kept cards; an outdated file is removed if there are none.

    The official cases are never played, so they are no part of the choice; training ignores split test.
    """
    from mica_ray.evaluation.screening import scenario_lines
    from mica_ray.files import write_whole

    with writing("--out", screened.out):
        if not screened.kept:
            screened.out.unlink(missing_ok=True)
            return
        official = screened.official if with_official else ()
        write_whole(screened.out, scenario_lines((*screened.kept, *official)))


def _record(screened: _Screened) -> dict[str, object]:
    from mica_ray.evaluation.screening import VERDICTS, count_by_stratum

    screening, deck = screened.screening, screened.deck
    verdicts = screening.verdicts
    counts = Counter(verdicts.values())
    strata = count_by_stratum(deck.cards, verdicts)
    return {
        "out": str(screened.out),
        "dialogues": str(screening.log.dialogues),
        "rule": {
            "samples": screening.rule.samples,
            "passes": screening.rule.passes,
            "unjudged_fraction": screening.rule.unjudged_fraction,
        },
        "screened": len(verdicts),
        **{verdict: counts[verdict] for verdict in VERDICTS},
        "failed_dialogues": len(screening.log.failed),
        "official_held_out": sum(card.is_official for card in deck.cards),
        "copies_held_out": sum(bool(card.copied_case) for card in deck.cards),
        "without_initial_state": sum(card.given is None and not card.is_official for card in deck.cards),
        "strata": strata,
        "cards": {
            name: {"verdict": verdict, "successes": successes, "finished": finished}
            for name, verdict in verdicts.items()
            for successes, finished in [screening.counts(name)]
        },
    }


def _show(screened: _Screened, console: Console, json_file: Path | None) -> None:
    from mica_ray.evaluation.screening import VERDICTS, count_by_stratum
    from mica_ray.reporting.drawing.text_table import TextTable

    log, record = screened.screening.log, _record(screened)
    counted = count_by_stratum(screened.deck.cards, screened.screening.verdicts)
    rows = [
        ("" if place else name, value, *(str(counts[verdict]) for verdict in VERDICTS))
        for name, values in counted.items()
        for place, (value, counts) in enumerate(values.items())
    ]
    title = ", ".join(f"{record[verdict]} {verdict}" for verdict in VERDICTS)
    TextTable(f"{record['screened']} cards: {title}", ("stratum", "value", *VERDICTS), tuple(rows)).show(
        console
    )
    for trajectory in log.failed[:_MAX_FAILURES]:
        console.print(
            f"{trajectory.scenario.id}: failed: {trajectory.error}", highlight=False, soft_wrap=True
        )
    if log.failed:
        console.print(
            f"{len(log.failed)} dialogues failed; the same command plays them again.", highlight=False
        )
    held = f"{record['official_held_out']} official cases and {record['copies_held_out']} copies are held out"
    unrated = f"{record['without_initial_state']} cards have no P_0 (`mica data rate`)"
    console.print(f"{held}; {unrated}.", highlight=False, soft_wrap=True)
    if screened.kept:
        console.print(f"train on them: {_train_hint(screened)}", highlight=False, soft_wrap=True)
    else:
        console.print(f"No card is kept; {screened.out} is not written.", highlight=False, soft_wrap=True)
    save_json(json_file, record)


def _train_hint(screened: _Screened) -> str:
    return f"mica train --set world=empa --set scenarios_file={screened.out} --set evaluation.split=valid"
