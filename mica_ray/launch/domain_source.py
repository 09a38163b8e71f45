"""Load the domain of a run, with the scenarios and rules of its config."""

from __future__ import annotations

from dataclasses import dataclass, replace

from mica_ray.config.references import ConfigError, resolve
from mica_ray.config.role_config import EMBEDDED
from mica_ray.config.run_config import RunConfig
from mica_ray.dialogue.domain import Domain
from mica_ray.domains.empa.cards import CardDeck
from mica_ray.domains.loader import load_scenarios
from mica_ray.embedded.retellings import with_retellings
from mica_ray.launch.card_source import card_scenarios, read_run_deck, refuse_test_cases
from mica_ray.types import Scenario

CARDS_ADDRESS = "https://github.com/KAYA-HAI/EMPA-Benchmark-EPMSandbox"
"""Where a user gets EMPA's cards (CC BY-NC 4.0), which are not part of this package."""


@dataclass(frozen=True, slots=True)
class RunDomain:
    """The domain that a config names, as its module declares it and as the run plays it."""

    declared: Domain
    """As declared. The embedded policy is trained on its scenarios, whatever the run plays."""
    played: Domain
    """With the scenarios and rules of the config."""
    deck: CardDeck | None = None
    """The EMPA cards that the scenarios come from; None without cards."""


def read_domain(config: RunConfig) -> RunDomain:
    """Load the domain of a config.

    Raises:
        ConfigError: there is no such domain, the scenario file or the cards are invalid, there are no
            scenarios, or official EMPA test cases would be training scenarios.
    """
    declared = _declared_domain(config)
    deck = _read_deck(config, declared)
    scenarios, source = _scenarios(config, declared, deck)
    if not scenarios:
        raise ConfigError(
            f"{source} has no scenarios. Set cards=FOLDER for EMPA cards, or scenarios_file=FILE. "
            f"The cards are published at {CARDS_ADDRESS}."
        )
    if not config.allow_test_cards:
        refuse_test_cases(scenarios, source)
    if scenarios is declared.scenarios:
        scenarios = with_retellings(scenarios, config.retellings, seed=config.seed)
    rules = declared.rules if config.rules is None else config.rules
    return RunDomain(declared, replace(declared, rules=rules, scenarios=scenarios), deck)


def read_judged_domain(config: RunConfig) -> Domain:
    """Load the domain of recorded dialogues, with the scenarios that a config names; there may be none.

    Official test cases are allowed in every split: nothing is trained.

    Raises:
        ConfigError: there is no such domain, or the scenario file or the cards are invalid.
    """
    declared = _declared_domain(config)
    scenarios, _ = _scenarios(config, declared, _read_deck(config, declared))
    if scenarios is declared.scenarios:
        scenarios = with_retellings(scenarios, config.retellings, seed=config.seed)
    return replace(declared, scenarios=scenarios)


def check_embedded_domain(declared: Domain) -> None:
    """Check that the embedded policy can be trained on a domain's own scenarios.

    Raises:
        ConfigError: the domain has none.
    """
    if not declared.scenarios:
        raise ConfigError(
            f"policy={EMBEDDED} is trained on the domain's own scenarios, and {declared.name} has none. "
            "Set policy=MODEL."
        )


def _declared_domain(config: RunConfig) -> Domain:
    domain = resolve(config.domain)
    if not isinstance(domain, Domain):
        raise ConfigError(
            f"domain={config.domain} is a {type(domain).__name__}, not a Domain. Set domain=module:NAME."
        )
    return domain


def _read_deck(config: RunConfig, domain: Domain) -> CardDeck | None:
    if config.cards is None:
        return None
    if config.scenarios_file is not None:
        raise ConfigError("cards and scenarios_file both provide scenarios. Set only one of them.")
    return read_run_deck(config.cards, config.card_ratings, domain)


def _scenarios(config: RunConfig, domain: Domain, deck: CardDeck | None) -> tuple[tuple[Scenario, ...], str]:
    """Return the scenarios of the run, and the name of their source for messages."""
    if deck is not None:
        found = card_scenarios(deck, domain, allow_test_cards=config.allow_test_cards)
        return found, f"cards {config.cards}"
    if config.scenarios_file is None:
        return domain.scenarios, f"domain {domain.name}"
    try:
        return load_scenarios(config.scenarios_file, domain.name), str(config.scenarios_file)
    except ValueError as error:
        raise ConfigError(str(error)) from error
