"""The world around the policy as a config describes it: domain, scenarios, role models, environments."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from mica_ray.chat.ledger import Ledger, MeteredChat, Price
from mica_ray.chat.model import ChatModel
from mica_ray.chat.openai_api import Endpoint, OpenAIChat
from mica_ray.chat.recorded import RecordingChat, ReplayChat
from mica_ray.config.references import ConfigError, resolve
from mica_ray.config.role_config import EMBEDDED, SCRIPTED, Player, Recording, RoleConfig
from mica_ray.config.run_config import RunConfig
from mica_ray.dialogue.actor import Actor
from mica_ray.dialogue.director import Director
from mica_ray.dialogue.domain import Domain
from mica_ray.dialogue.environment import DialogueEnvironment, Environment
from mica_ray.dialogue.judger import Judge, Judger
from mica_ray.dialogue.prefix import Prefix
from mica_ray.domains.loader import load_scenarios
from mica_ray.embedded.retellings import with_retellings
from mica_ray.embedded.roles import ScriptedRoles
from mica_ray.launch.card_source import card_scenarios, refuse_test_cases
from mica_ray.types import ROLES, Sampling, Scenario, Split

RoleModelSource = Callable[[str], ChatModel]
"""Gives the model behind a role `vllm:MODEL`, from MODEL."""


@dataclass(frozen=True, slots=True)
class World:
    """Makes one environment per dialogue from scenario and seed; the role models are shared by all."""

    domain: Domain
    actor: Actor
    director: Director
    judge: Judge

    def environment(self, scenario: Scenario, seed: int, begun: Prefix | None = None) -> Environment:
        """Make the environment of one dialogue, from its opening or from where it stood before."""
        director = self.director if self.domain.director_prompt else None
        return DialogueEnvironment(
            scenario,
            self.domain,
            actor=self.actor,
            judge=self.judge,
            director=director,
            seed=seed,
            begun=begun,
        )

    def policy_prompt(self, scenario: Scenario) -> str:
        """Give the policy's system prompt, in the scenario's language."""
        return self.domain.prompts(scenario.language).policy_prompt

    def scenarios(self, split: Split) -> tuple[Scenario, ...]:
        """Give the scenarios of a split.

        Raises:
            ConfigError: there is none.
        """
        found = self.domain.split(split)
        if not found:
            raise ConfigError(
                f"domain {self.domain.name}: no scenario in split {split!r}; add some or choose another"
            )
        return found


def read_domain(config: RunConfig) -> Domain:
    """Give the domain of a config, with the scenarios and rules that take the place of its own.

    Raises:
        ConfigError: there is no such domain, the scenario file or the cards are wrong, there are no
            scenarios, or official EMPA test cases would be trained on.
    """
    domain = own_domain(config)
    if config.rules is not None:
        domain = replace(domain, rules=config.rules)
    scenarios, source = _scenarios(config, domain)
    if not scenarios:
        raise ConfigError(
            f"{source}: brings no scenarios; name the cards by --set cards=FOLDER, "
            "or a file by --set scenarios_file=FILE"
        )
    if not config.allow_test_cards:
        refuse_test_cases(scenarios, source)
    if scenarios is domain.scenarios:
        scenarios = with_retellings(scenarios, config.retellings, seed=config.seed)
    return replace(domain, scenarios=scenarios)


def own_domain(config: RunConfig) -> Domain:
    """Give the domain that a config names, as it is.

    Raises:
        ConfigError: there is no such domain.
    """
    domain = resolve(config.domain)
    if not isinstance(domain, Domain):
        raise ConfigError(f"domain={config.domain}: is a {type(domain).__name__}, not a Domain")
    return domain


def embedded_domain(config: RunConfig) -> Domain:
    """Give the domain of whose own scenarios and rules the embedded policy is made, whatever a run plays.

    Raises:
        ConfigError: there is no such domain, or it has no scenarios of its own.
    """
    domain = own_domain(config)
    if not domain.scenarios:
        raise ConfigError(
            f"policy={EMBEDDED}: is made of a domain's own scenarios, and {domain.name} has none; "
            "name a model by --set policy=MODEL"
        )
    return domain


def _scenarios(config: RunConfig, domain: Domain) -> tuple[tuple[Scenario, ...], str]:
    """Give the scenarios that a run plays, and where they come from."""
    if config.cards is not None and config.scenarios_file is not None:
        raise ConfigError("cards and scenarios_file: both bring scenarios; name one of them")
    if config.cards is not None:
        found = card_scenarios(
            config.cards, config.card_ratings, domain, allow_test_cards=config.allow_test_cards
        )
        return found, f"cards {config.cards}"
    if config.scenarios_file is None:
        return domain.scenarios, f"domain {domain.name}"
    try:
        return load_scenarios(config.scenarios_file, domain.name), str(config.scenarios_file)
    except ValueError as error:
        raise ConfigError(str(error)) from error


def num_evaluated(config: RunConfig) -> int:
    """Give the number of dialogues of one evaluation."""
    scenarios = read_domain(config).split(config.evaluation.split)[: config.evaluation.max_scenarios]
    return len(scenarios) * config.evaluation.samples


def build_world(
    config: RunConfig,
    *,
    environment: Mapping[str, str],
    served: RoleModelSource,
    ledger: Ledger | None = None,
) -> World:
    """Make the domain and its three roles.

    Args:
        config: of the run.
        environment: variables among which endpoints find their keys.
        served: gives models that vLLM serves in the cluster.
        ledger: counts every role's calls; None counts none. A judge without a chat model makes none.

    Raises:
        ConfigError: no such domain, a wrong scenario file, or a key that is not set.
    """
    domain, roles = read_domain(config), config.roles
    sampling = Sampling(temperature=roles.temperature, max_tokens=roles.max_tokens)
    models: dict[str, ChatModel] = {}

    def model(name: str) -> ChatModel:
        role = getattr(roles, name)
        inner = shared(role)
        return inner if ledger is None else MeteredChat(inner, ledger, name, role_price(role))

    def shared(role: Player | Recording) -> ChatModel:
        # Roles on one endpoint share a client, and with it the bound on calls at once; a file has one writer.
        name = repr(role)
        if name not in models:
            models[name] = role_model(role, environment=environment, served=served)
        return models[name]

    deadline = roles.deadline_seconds
    judge: Judge = (
        roles.judge if isinstance(roles.judge, Judge) else Judger(model("judge"), domain, sampling, deadline)
    )
    return World(
        domain=domain,
        actor=Actor(model("actor"), domain, sampling, deadline),
        director=Director(model("director"), domain, sampling, deadline),
        judge=judge,
    )


def role_price(role: Player | Recording) -> Price:
    """Give what a role's tokens cost; a replay and engines of one's own cost nothing per token."""
    if isinstance(role, Recording):
        return Price() if role.mode == "replay" or role.inner is None else role_price(role.inner)
    if isinstance(role, Endpoint):
        return Price(role.price_per_million_prompt_tokens, role.price_per_million_completion_tokens)
    return Price()


def check_roles(roles: RoleConfig, environment: Mapping[str, str]) -> None:
    """Refuse endpoints whose key is not set and recordings that are not there.

    Raises:
        ConfigError: names the variable or the file.
    """
    for name, player in roles.asked.items():
        if isinstance(player, Endpoint) and not environment.get(player.api_key_env):
            raise ConfigError(f"roles.{name}: {player.api_key_env} is not set; export the key of {player}")
    for name in ROLES:
        role = getattr(roles, name)
        if isinstance(role, Recording) and role.mode == "replay" and not role.recording.is_file():
            raise ConfigError(
                f'roles.{name}: no recording {role.recording}; make it with "mode": "record" and an "inner"'
            )


def role_model(
    role: Player | Recording, *, environment: Mapping[str, str], served: RoleModelSource
) -> ChatModel:
    """Make the model that plays a role, or a policy known by its text.

    Raises:
        ConfigError: a key that is not set, or a recording that cannot be used.
    """
    if isinstance(role, Recording):
        try:
            if role.mode == "replay" or role.inner is None:
                return ReplayChat(role.recording)
            inner = role_model(role.inner, environment=environment, served=served)
            return RecordingChat(inner, role.recording)
        except (OSError, ValueError) as error:
            raise ConfigError(str(error)) from error
    if isinstance(role, Endpoint):
        key = environment.get(role.api_key_env, "")
        if not key:
            raise ConfigError(f"{role}: {role.api_key_env} is not set; export its key")
        return OpenAIChat(role, key)
    if role == SCRIPTED:
        return ScriptedRoles()
    if isinstance(role, str):
        return served(role.partition(":")[2])
    assert isinstance(role, ChatModel), "RoleConfig lets only a judge score alone"
    return role
