"""Fetch and read EMPA cards, and keep the official test cases out of training."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from mica_ray.config.references import ConfigError
from mica_ray.dialogue.domain import Domain
from mica_ray.domains.empa import EMPA
from mica_ray.domains.empa.cards import CardDeck, CardError, near_test_cards, read_cards
from mica_ray.domains.empa.official import official_case
from mica_ray.error_lines import first_line
from mica_ray.types import Scenario

_FILES = ("*.[mM][dD]", "*.[jJ][sS][oO][nN]", "*.[jJ][sS][oO][nN][lL]", "*.[tT][xX][tT]")
"""File patterns of a dataset of cards."""


def fetch_cards(cards: str) -> Path:
    """Return a folder of cards; a hub dataset is downloaded first.

    The dataset is a set of files named by card id. `datasets` would read them as rows of one table and drop
    the file names, so the hub's own client downloads the folder.

    Raises:
        ConfigError: there is no such folder, or the download failed.
    """
    folder = Path(cards).expanduser()
    if folder.is_dir():
        return folder
    if folder.is_absolute() or cards.startswith((".", "~")) or cards.count("/") != 1:
        raise ConfigError(f"cards {cards}: no such folder. Set cards to a folder or a hub dataset id.")
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(cards, repo_type="dataset", allow_patterns=list(_FILES)))
    except Exception as error:  # The hub client raises its own, httpx's and the operating system's errors.
        raise ConfigError(
            f"cards {cards}: download from the hub failed ({first_line(error)}). "
            "Set cards=FOLDER to use a local copy."
        ) from error


def read_deck(cards: str, ratings: Path | None = None) -> CardDeck:
    """Read the cards of a folder or hub dataset.

    Args:
        cards: folder or hub dataset id.
        ratings: file written by `mica data rate`; None for the one in the folder, if it exists.

    Raises:
        ConfigError: the cards or ratings do not exist or are invalid.
    """
    if ratings is not None and not ratings.is_file():
        raise ConfigError(f"card_ratings {ratings}: no such file. Create it with `mica data rate`.")
    try:
        return read_cards(fetch_cards(cards), ratings=ratings)
    except CardError as error:
        raise ConfigError(f"cards {error}") from error


def read_run_deck(cards: str, ratings: Path | None, domain: Domain) -> CardDeck:
    """Read the cards of a run, as `read_deck`.

    Raises:
        ConfigError: as `read_deck`, or the domain is not EMPA.
    """
    if domain.name != EMPA.name:
        raise ConfigError(
            f"cards {cards} need domain {EMPA.name}, got {domain.name}. "
            "Set domain=mica_ray.domains.empa:EMPA."
        )
    return read_deck(cards, ratings)


def card_scenarios(deck: CardDeck, domain: Domain, *, allow_test_cards: bool) -> tuple[Scenario, ...]:
    """Return the scenarios of the cards.

    Raises:
        ConfigError: a card has a fatal flaw.
    """
    try:
        return deck.scenarios(domain.name, allow_test_cards=allow_test_cards)
    except CardError as error:
        raise ConfigError(f"cards {error}") from error


def refuse_test_cases(scenarios: Iterable[Scenario], source: str) -> None:
    """Check that official EMPA test cases are neither trained on nor used to select a policy.

    A case is recognized by its content, whatever its id.

    Args:
        scenarios: of all splits; those of the test split are not checked.
        source: where they come from, for the message.

    Raises:
        ConfigError: with the first such scenario and its official case.
    """
    for scenario in scenarios:
        case = None if scenario.split == "test" else official_case(scenario)
        if case is not None:
            raise ConfigError(
                f"{source}: scenario {scenario.id!r} of split {scenario.split!r} is the official EMPA test "
                f"case {case}. Remove it, or set allow_test_cards=true, which marks the run as contaminated."
            )


def describe_deck(deck: CardDeck) -> str:
    """Describe the number of cards, and their similarity to the test cases."""
    known = sum(card.given is not None for card in deck.cards)
    near = near_test_cards(deck)
    copies = sum(item.is_duplicate for item in near)
    shared = (
        f"{copies} near-duplicates of test cards; the closest pair, {near[0].name} and {near[0].reference}, "
        f"shares {near[0].shared_fraction:.0%} of its text"
        if near
        else "no card shares text with a test card"
    )
    return f"{len(deck.cards)} from {deck.folder}, {known} with P_0; {shared}"
