"""EMPA-format cards from the user's folder: texts, stories, test ids and rated P_0.

A card becomes a Scenario only if its P_0 is known. `read_cards` describes the layout of the folder.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from mica_ray.content_files import content_files, named_file
from mica_ray.domains.empa.card_lists import read_listed_cases, read_metadata, read_stories
from mica_ray.domains.empa.card_text import CardFlaw, CardText, read_card_text
from mica_ray.domains.empa.indicators import difficulty, dominant_axis
from mica_ray.domains.empa.official import OFFICIAL_IDS, official_text, sketches_of
from mica_ray.domains.empa.overlap import NearText, nearest
from mica_ray.domains.empa.ratings import (
    MATCHED_LEVELS,
    OFFICIAL_LEVELS,
    RATINGS,
    GivenState,
    read_given_states,
)
from mica_ray.types import AXES, Scenario, Split
from mica_ray.valid_text import valid_text

CARD_FOLDER = "cards"
STORIES = "character_stories.json"
OFFICIAL_CASES = "official_cases.txt"
CASE_METADATA = "case_metadata.json"

_LISTS = (STORIES, OFFICIAL_CASES, CASE_METADATA, OFFICIAL_LEVELS, MATCHED_LEVELS, RATINGS)

UNKNOWN = "unknown"
"""Category of a card without one."""

_VALID_EVERY = 20
"""One of this many cards is for validation."""


class CardError(ValueError):
    """An unusable folder of cards. The message names file, field and remedy."""


@dataclass(frozen=True, slots=True)
class EpmCard:
    """One card with all its fields from the folder."""

    id: str
    """File name without ending, for example "script_001"."""
    text: CardText
    stages: tuple[str, ...]
    """Story fragments in the order in which they may be revealed."""
    given: GivenState | None = None
    """None if the card is not rated."""
    category: str = UNKNOWN
    listed_axis: str = ""
    """Dominant axis in the case list; empty if it has none."""
    listed_difficulty: str = ""
    is_official: bool = False
    """Whether its id is a test case."""
    copied_case: str = ""
    """Id of the test case that this card copies under another id; empty for none."""

    @property
    def digest(self) -> str:
        """Sixteen hex digits that identify the card's text, so that a rating matches its card."""
        return hashlib.sha256("\n".join((self.text.persona, *self.stages)).encode()).hexdigest()[:16]

    @property
    def dominant_axis(self) -> str:
        """Axis key from the case list, or else from P_0; empty if both are unknown."""
        return self.listed_axis or (dominant_axis(self.given.state) if self.given else "")

    @property
    def difficulty(self) -> str:
        """Difficulty from the case list, or else from P_0; empty if both are unknown."""
        return self.listed_difficulty or (difficulty(self.given.state) if self.given else "")

    @property
    def split(self) -> Split:
        """Test for official cases; of the others one in twenty, by a hash of the id, is valid."""
        if self.is_official:
            return "test"
        number = int(hashlib.sha256(self.id.encode()).hexdigest()[:8], 16)
        return "valid" if number % _VALID_EVERY == 0 else "train"

    def scenario(self, domain: str, *, split: Split | None = None) -> Scenario:
        """Return the card as a scenario without an opening, so that the Actor writes it.

        Args:
            domain: name of the domain.
            split: the split; None for the card's own.

        Raises:
            CardError: P_0 is unknown; it is never estimated.
        """
        if self.given is None:
            raise CardError(f"{self.id}.md: P_0 is unknown. Rate the card with `mica data rate`.")
        return Scenario(
            id=self.id,
            domain=domain,
            category=self.category,
            dominant_axis=self.dominant_axis,
            persona=self.text.persona,
            opening="",
            initial_state=self.given.state,
            stages=self.stages,
            split=split or self.split,
            language="zh",
            topic=self.text.topic,
            difficulty=self.difficulty,
            priorities=tuple(self.text.priorities.get(axis, "") for axis in AXES)
            if self.text.priorities
            else (),
        )


@dataclass(frozen=True, slots=True)
class CardDeck:
    """The readable cards of a folder, by id, and its flaws."""

    folder: Path
    cards: tuple[EpmCard, ...]
    flaws: tuple[CardFlaw, ...]

    @property
    def fatal(self) -> tuple[CardFlaw, ...]:
        """The flaws for which training rejects the folder."""
        return tuple(flaw for flaw in self.flaws if flaw.is_fatal)

    def scenarios(self, domain: str, *, allow_test_cards: bool = False) -> tuple[Scenario, ...]:
        """Return the cards with a known P_0 as scenarios.

        Official cases are test scenarios. A copy of one under another id is left out unless
        `allow_test_cards`.

        Args:
            domain: name of the domain.
            allow_test_cards: whether official cases and their copies are training scenarios as well.

        Raises:
            CardError: the folder has a fatal flaw, or no card has a known P_0.
        """
        for flaw in self.fatal:
            more = f" ({len(self.fatal) - 1} more: `mica data check`)" if len(self.fatal) > 1 else ""
            raise CardError(f"{self.folder}: {flaw}{more}")
        known = [card for card in self.cards if card.given is not None]
        if not known:
            raise CardError(f"{self.folder}: no card has a known P_0. Rate the cards with `mica data rate`.")
        own = [card.scenario(domain) for card in known if not card.copied_case]
        tested = [
            card.scenario(domain, split="train")
            for card in known
            if allow_test_cards and (card.is_official or card.copied_case)
        ]
        return (*own, *tested)


def near_test_cards(deck: CardDeck) -> tuple[NearText, ...]:
    """Compare each card with the deck's official cases, by text and by story; nearest first."""
    found: dict[str, NearText] = {}
    for texts in (
        {card.id: card.text.own_text for card in deck.cards},
        {card.id: "".join(card.stages) for card in deck.cards},
    ):
        tested = {card.id: texts[card.id] for card in deck.cards if card.is_official}
        for near in nearest({name: text for name, text in texts.items() if name not in tested}, tested):
            if near.name not in found or near.shared_fraction > found[near.name].shared_fraction:
                found[near.name] = near
    return tuple(sorted(found.values(), key=lambda near: (-near.shared_fraction, near.name)))


def read_cards(folder: Path, *, ratings: Path | None = None) -> CardDeck:
    """Read a folder of cards.

    Required: cards/ID.md and character_stories.json. Optional: official_cases.txt (test ids besides the
    benchmark's own 30), case_metadata.json (category, axis and difficulty of the test cases),
    official30_iedr.json, iedr_236_cases.json and rated_iedr.jsonl (indicator levels).

    Args:
        folder: folder with these files.
        ratings: file that `mica data rate` wrote; None for rated_iedr.jsonl in the folder.

    Raises:
        CardError: the folder does not exist, contains no cards, or has two files of one of these names.
    """
    try:
        files = content_files(named_file(folder, CARD_FOLDER), ".md")
        listed = {name: named_file(folder, name) for name in _LISTS}
    except (OSError, ValueError) as error:
        raise CardError(f"{folder}: {error}") from error
    if not files:
        raise CardError(f"{folder}: contains no {CARD_FOLDER}/*.md. Name the folder above the cards.")
    flaws: list[CardFlaw] = []
    texts = _texts(files, flaws)
    stories = read_stories(listed[STORIES], texts, flaws)
    names = {valid_text(file.stem) for file in files}
    official = OFFICIAL_IDS | read_listed_cases(listed[OFFICIAL_CASES], names, flaws)
    metadata = read_metadata(listed[CASE_METADATA], flaws)
    by_id = {name: EpmCard(name, text, stories[name]) for name, text in texts.items() if name in stories}
    given = read_given_states(folder, {name: card.digest for name, card in by_id.items()}, ratings)
    flaws += _equal_cards(by_id)
    copied = _copied_cases(by_id, official, flaws)
    cards = tuple(
        replace(
            _listed(card, metadata.get(card.id, {}), flaws),
            given=given.states.get(card.id),
            is_official=card.id in official,
            copied_case=copied.get(card.id, ""),
        )
        for card in by_id.values()
    )
    return CardDeck(folder, cards, (*flaws, *given.flaws))


def _texts(files: Sequence[Path], flaws: list[CardFlaw]) -> dict[str, CardText]:
    """Read the cards, by id."""
    texts: dict[str, CardText] = {}
    name_of: dict[str, str] = {}
    for file in files:
        name, card_id = valid_text(f"{CARD_FOLDER}/{file.name}"), valid_text(file.stem)
        if (first := name_of.setdefault(card_id, name)) != name:
            flaws.append(CardFlaw(name, "file name", f"is the same card as {first}", "remove one of them"))
            continue
        try:
            content = file.read_bytes()
        except OSError as error:
            flaws.append(CardFlaw(name, "text", f"cannot be read ({error.strerror})", "fix its permissions"))
            continue
        text, found = read_card_text(content, name)
        flaws += found
        if text is not None:
            texts[card_id] = text
    return texts


def _equal_cards(cards: Mapping[str, EpmCard]) -> list[CardFlaw]:
    """Return a flaw for each card whose text and story another card has as well."""
    flaws: list[CardFlaw] = []
    first_of: dict[str, str] = {}
    for name, card in cards.items():
        if (first := first_of.setdefault(card.digest, name)) != name:
            problem = f"has the same text and story as {CARD_FOLDER}/{first}.md"
            flaws.append(CardFlaw(f"{CARD_FOLDER}/{name}.md", "text", problem, "remove one of them"))
    return flaws


def _copied_cases(
    cards: Mapping[str, EpmCard], official: frozenset[str], flaws: list[CardFlaw]
) -> dict[str, str]:
    """Return the test case of each unofficial card that copies one, by card id."""
    listed = {
        name: sketches_of(card.text.own_text, "".join(card.stages))
        for name, card in cards.items()
        if name in official - OFFICIAL_IDS
    }
    copied: dict[str, str] = {}
    for name, card in cards.items():
        case = (
            None if name in official else official_text("".join((card.text.own_text, *card.stages)), listed)
        )
        if case is not None:
            copied[name] = case
            problem = f"copies the test case {case}"
            remedy = "it is excluded from every split"
            flaws.append(CardFlaw(f"{CARD_FOLDER}/{name}.md", "text", problem, remedy, is_fatal=False))
    return copied


def _listed(card: EpmCard, entry: Mapping[str, object], flaws: list[CardFlaw]) -> EpmCard:
    """Add the fields of the case list to a card."""
    axis = str(entry.get("dominant_axis", ""))
    if axis not in ("", "C", "A", "P"):
        problem = f"must be C, A or P, got {axis!r}"
        flaws.append(CardFlaw(CASE_METADATA, f"{card.id}.dominant_axis", problem, "correct the entry"))
    return replace(
        card,
        category=str(entry.get("category", UNKNOWN)),
        listed_axis=axis,
        listed_difficulty=str(entry.get("difficulty", "")),
    )
