"""The world around the policy as a config describes it: domain, scenarios, role models, environments."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from mica_ray.chat.model import ChatModel
from mica_ray.chat.openai_api import Endpoint, OpenAIChat
from mica_ray.chat.recorded import RecordingChat, ReplayChat
from mica_ray.chat.scripted import ScriptedRoles
from mica_ray.config.references import ConfigError, resolve
from mica_ray.config.role_config import ROLES, SCRIPTED, Player, Recording, RoleConfig
from mica_ray.config.run_config import RunConfig
from mica_ray.dialogue.actor import Actor
from mica_ray.dialogue.director import Director
from mica_ray.dialogue.domain import Domain
from mica_ray.dialogue.environment import DialogueEnvironment, Environment
from mica_ray.dialogue.judger import Judge, Judger
from mica_ray.domains.loader import load_scenarios
from mica_ray.types import Sampling, Scenario, Split

ServedModel = Callable[[str], ChatModel]
"""Gives the model behind a role `vllm:MODEL`, from MODEL."""


@dataclass(frozen=True, slots=True)
class World:
    """Makes one environment per dialogue from scenario and seed; the role models are shared by all."""

    domain: Domain
    actor: Actor
    director: Director
    judge: Judge

    def environment(self, scenario: Scenario, seed: int) -> Environment:
        """Make the environment of one dialogue."""
        director = self.director if self.domain.director_prompt else None
        return DialogueEnvironment(
            scenario, self.domain, actor=self.actor, judge=self.judge, director=director, seed=seed
        )

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
        ConfigError: there is no such domain, or the scenario file is wrong.
    """
    domain = resolve(config.domain)
    if not isinstance(domain, Domain):
        raise ConfigError(f"domain={config.domain}: is a {type(domain).__name__}, not a Domain")
    if config.rules is not None:
        domain = replace(domain, rules=config.rules)
    if config.scenarios_file is None:
        return domain
    try:
        return replace(domain, scenarios=load_scenarios(config.scenarios_file, domain.name))
    except ValueError as error:
        raise ConfigError(str(error)) from error


def num_evaluated(config: RunConfig) -> int:
    """Give the number of dialogues of one evaluation."""
    scenarios = read_domain(config).split(config.evaluation.split)[: config.evaluation.max_scenarios]
    return len(scenarios) * config.evaluation.samples


def build_world(config: RunConfig, *, environment: Mapping[str, str], served: ServedModel) -> World:
    """Make the domain and its three roles.

    Args:
        config: of the run.
        environment: variables among which endpoints find their keys.
        served: gives models that vLLM serves in the cluster.

    Raises:
        ConfigError: no such domain, a wrong scenario file, or a key that is not set.
    """
    domain, roles = read_domain(config), config.roles
    sampling = Sampling(temperature=roles.temperature, max_tokens=roles.max_tokens)
    models: dict[str, ChatModel] = {}

    def model(role: Player | Recording) -> ChatModel:
        # Roles on one endpoint share a client, and with it the bound on calls at once; a file has one writer.
        name = repr(role)
        if name not in models:
            models[name] = role_model(role, environment=environment, served=served)
        return models[name]

    deadline = roles.deadline_seconds
    judge: Judge = (
        roles.judge
        if isinstance(roles.judge, Judge)
        else Judger(model(roles.judge), domain, sampling, deadline)
    )
    return World(
        domain=domain,
        actor=Actor(model(roles.actor), domain, sampling, deadline),
        director=Director(model(roles.director), domain, sampling, deadline),
        judge=judge,
    )


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


def role_model(role: Player | Recording, *, environment: Mapping[str, str], served: ServedModel) -> ChatModel:
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
