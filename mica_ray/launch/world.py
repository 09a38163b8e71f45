"""Build the role models and the environments of dialogues. Starts no engine."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Literal

from mica_ray.chat.ledger import Ledger, MeteredChat, Price
from mica_ray.chat.model import ChatModel
from mica_ray.chat.openai_api import DEFAULT_SLOTS, Endpoint, OpenAIChat
from mica_ray.chat.recorded import RecordingChat, ReplayChat
from mica_ray.config.references import ConfigError
from mica_ray.config.role_config import SCRIPTED, Player, Recording, RoleConfig, Seat
from mica_ray.config.trust import key_problem
from mica_ray.dialogue.actor import Actor
from mica_ray.dialogue.director import Director
from mica_ray.dialogue.domain import Domain
from mica_ray.dialogue.environment import DialogueEnvironment, Environment
from mica_ray.dialogue.judger import Judge, Judger
from mica_ray.dialogue.prefix import Prefix
from mica_ray.embedded.roles import ScriptedRoles
from mica_ray.secrets import read_key, register_environment
from mica_ray.types import Sampling, Scenario, Split

RoleModelSource = Callable[[str], ChatModel]
"""Returns the model that plays a role `vllm:MODEL`, given MODEL."""


@dataclass(frozen=True, slots=True)
class World:
    """Builds one environment per dialogue; all environments share the role models."""

    domain: Domain
    actor: Actor
    director: Director
    judge: Judge
    audit_judge: Judge | None = None
    """Scores training dialogues again; None for no audit."""

    def environment(self, scenario: Scenario, seed: int, begun: Prefix | None = None) -> Environment:
        """Build the environment of one dialogue, from its opening or from the prefix `begun`."""
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
        """Return the policy's system prompt, in the scenario's language."""
        return self.domain.prompts(scenario.language).policy_prompt

    def scenarios(self, split: Split) -> tuple[Scenario, ...]:
        """Return the scenarios of a split.

        Raises:
            ConfigError: the split is empty.
        """
        found = self.domain.split(split)
        if not found:
            raise ConfigError(
                f"Domain {self.domain.name} has no scenarios in split {split!r}. Add some to its file."
            )
        return found


def build_world(
    roles: RoleConfig,
    domain: Domain,
    *,
    environment: Mapping[str, str],
    served: RoleModelSource,
    ledger: Ledger | None = None,
    slots: int = DEFAULT_SLOTS,
) -> World:
    """Build the three roles of a domain.

    Args:
        roles: who plays them.
        domain: with the scenarios and rules of the run.
        environment: variables that contain the API keys of endpoints.
        served: finds the models that vLLM serves in the cluster.
        ledger: counts the calls of all roles; None counts nothing. A judge that is not a chat model makes no
            calls.
        slots: concurrent calls to an endpoint that sets no limit.

    Raises:
        ConfigError: an API key is not set, or a recording cannot be used.
    """
    register_environment(environment)
    sampling = Sampling(temperature=roles.temperature, max_tokens=roles.max_tokens)
    models: dict[str, ChatModel] = {}

    def model(name: Seat) -> ChatModel:
        role = roles.sources[name]
        inner = shared(role)
        return inner if ledger is None else MeteredChat(inner, ledger, name, role_price(role))

    def shared(role: Player | Recording) -> ChatModel:
        # Roles on one endpoint share a client and its limit on concurrent calls. A recording has one writer.
        name = repr(role)
        if name not in models:
            models[name] = role_model(role, environment=environment, served=served, slots=slots)
        return models[name]

    def seen(name: Seat) -> Domain:
        return replace(domain, shows_needs=_sees_needs(roles, name, domain))

    deadline = roles.deadline_seconds

    def judge(name: Literal["judge", "audit_judge"]) -> Judge:
        role = roles.sources[name]
        return role if isinstance(role, Judge) else Judger(model(name), seen(name), sampling, deadline)

    return World(
        domain=domain,
        actor=Actor(model("actor"), seen("actor"), sampling, deadline),
        director=Director(model("director"), seen("director"), sampling, deadline),
        judge=judge("judge"),
        audit_judge=None if roles.audit_judge is None else judge("audit_judge"),
    )


def _sees_needs(roles: RoleConfig, name: Seat, domain: Domain) -> bool:
    """Whether a role sees the initial needs and their order, without which scripted roles cannot play."""
    role = roles.sources[name]
    player = role.inner if isinstance(role, Recording) else role
    if player == SCRIPTED:
        return True
    if roles.shows_needs is not None:
        return roles.shows_needs
    return domain.shows_needs and not isinstance(player, Endpoint | str | None)


def role_price(role: Player | Recording) -> Price:
    """Return the price of a role's tokens; replays and models served by vLLM are free."""
    if isinstance(role, Recording):
        return Price() if role.mode == "replay" or role.inner is None else role_price(role.inner)
    if isinstance(role, Endpoint):
        return Price(role.price_per_million_prompt_tokens, role.price_per_million_completion_tokens)
    return Price()


def check_roles(roles: RoleConfig, environment: Mapping[str, str], *, key: str = "roles") -> None:
    """Check the API keys of endpoints and the proxies to them, and that the recordings to replay exist.

    Args:
        roles: who plays them.
        environment: variables that contain the API keys.
        key: of the roles in the config.

    Raises:
        ConfigError: with the name of the variable or the file.
    """
    register_environment(environment)
    for name, player in roles.players.items():
        if isinstance(player, Endpoint):
            try:
                endpoint_chat(player, environment)
            except ConfigError as error:
                raise ConfigError(f"{key}.{name}: {error}") from error
    for name, role in roles.sources.items():
        if isinstance(role, Recording) and role.mode == "replay" and not role.recording.is_file():
            raise ConfigError(
                f"{key}.{name}: recording {role.recording} does not exist. "
                'Create it with "mode": "record" and an "inner" role.'
            )


def role_model(
    role: Player | Recording,
    *,
    environment: Mapping[str, str],
    served: RoleModelSource,
    slots: int = DEFAULT_SLOTS,
) -> ChatModel:
    """Build the model that plays a role, or a policy that is only known by its text.

    Raises:
        ConfigError: an API key is not set, or a recording cannot be used.
    """
    if isinstance(role, Recording):
        try:
            if role.mode == "replay" or role.inner is None:
                return ReplayChat(role.recording)
            inner = role_model(role.inner, environment=environment, served=served, slots=slots)
            return RecordingChat(inner, role.recording)
        except (OSError, ValueError) as error:
            raise ConfigError(str(error)) from error
    if isinstance(role, Endpoint):
        return endpoint_chat(role, environment, slots=slots)
    if role == SCRIPTED:
        return ScriptedRoles()
    if isinstance(role, str):
        return served(role.partition(":")[2])
    assert isinstance(role, ChatModel), "RoleConfig accepts objects without chat() only as the judge"
    return role


def endpoint_chat(
    endpoint: Endpoint, environment: Mapping[str, str], *, slots: int = DEFAULT_SLOTS
) -> OpenAIChat:
    """Build the chat model of an endpoint with its API key from the environment. Sends nothing.

    Raises:
        ConfigError: the key is not set or no key, must not be sent to the address (config/trust.py), or the
            environment's proxies cannot be used.
    """
    if endpoint.base_url is not None:
        problem = key_problem(endpoint.base_url, endpoint.api_key_env)
        if problem is not None:
            raise ConfigError(problem)
    try:
        return OpenAIChat(endpoint, read_key(environment, endpoint.api_key_env), slots=slots)
    except ValueError as error:
        problem = str(error)
        named = problem if str(endpoint) in problem else f"{problem} The endpoint is {endpoint}."
        raise ConfigError(named) from None
