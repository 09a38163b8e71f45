"""Where a run's cards come from, and who may not be trained on: the official EMPA test cases."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from mica_ray.config.references import ConfigError
from mica_ray.dialogue.domain import Domain
from mica_ray.domains.empa import EMPA
from mica_ray.domains.empa.cards import CardDeck, CardError, near_test_cards, read_cards
from mica_ray.domains.empa.official import official_case
from mica_ray.types import Scenario

_FILES = ("*.md", "*.json", "*.jsonl", "*.txt")
"""What a dataset of cards is made of."""


def fetch_cards(cards: str) -> Path:
    """Give the local folder of a folder of cards or hub dataset id, fetching the latter.

    The layout is files that belong together, named by card id; `datasets` reads rows of one table and drops
    the files' names. So the hub's own client fetches the folder as it stands.

    Raises:
        ConfigError: there is no such folder, or the hub gives no such dataset.
    """
    folder = Path(cards).expanduser()
    if folder.is_dir():
        return folder
    if folder.is_absolute() or cards.startswith((".", "~")) or cards.count("/") != 1:
        raise ConfigError(f"cards {cards}: no such folder; give a folder of cards or a hub dataset id")
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(cards, repo_type="dataset", allow_patterns=list(_FILES)))
    except Exception as error:  # The hub client raises its own, httpx's and the operating system's errors.
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise ConfigError(
            f"cards {cards}: not fetched from the hub ({reason}); give a folder by --set cards=PATH"
        ) from error


def read_deck(cards: str, ratings: Path | None = None) -> CardDeck:
    """Read the cards of a folder or hub dataset.

    Args:
        cards: folder or hub dataset id.
        ratings: file of `mica data rate`, None for the one in the folder if there is one.

    Raises:
        ConfigError: there are no such cards or ratings.
    """
    if ratings is not None and not ratings.is_file():
        raise ConfigError(f"card_ratings {ratings}: no such file; make it by `mica data rate`")
    try:
        return read_cards(fetch_cards(cards), ratings=ratings)
    except CardError as error:
        raise ConfigError(f"cards {error}") from error


def card_scenarios(
    cards: str, ratings: Path | None, domain: Domain, *, allow_test_cards: bool
) -> tuple[Scenario, ...]:
    """Give the scenarios of a run's cards.

    Raises:
        ConfigError: another domain than EMPA, or a folder of cards with a fatal flaw.
    """
    if domain.name != EMPA.name:
        raise ConfigError(
            f"cards {cards}: are played in the domain {EMPA.name}, not {domain.name}; "
            "--set domain=mica_ray.domains.empa:EMPA"
        )
    try:
        return read_deck(cards, ratings).scenarios(domain.name, allow_test_cards=allow_test_cards)
    except CardError as error:
        raise ConfigError(f"cards {error}") from error


def refuse_test_cases(scenarios: Iterable[Scenario], source: str) -> None:
    """Refuse to learn from the official EMPA test cases, or to choose by them, whatever they are called.

    Args:
        scenarios: of all splits; those of the test split may be anybody.
        source: where they come from, for the message.

    Raises:
        ConfigError: names the first such scenario and the case it is.
    """
    for scenario in scenarios:
        case = None if scenario.split == "test" else official_case(scenario)
        if case is not None:
            raise ConfigError(
                f"{source}: scenario {scenario.id!r} of split {scenario.split!r} is the official EMPA test "
                f"case {case}; take it out, or --set allow_test_cards=true and the run is marked contaminated"
            )


def describe_deck(deck: CardDeck) -> str:
    """Say how many cards are played, and how near the others come to the test cases."""
    known = sum(card.given is not None for card in deck.cards)
    near = near_test_cards(deck)
    copies = sum(item.is_duplicate for item in near)
    shared = (
        f"{copies} near-duplicates of test cards; nearest {near[0].name} and {near[0].reference} with "
        f"{near[0].shared_fraction:.0%} of the text"
        if near
        else "none shares text with a test card"
    )
    return f"{len(deck.cards)} of {deck.folder}, {known} with P_0; {shared}"
