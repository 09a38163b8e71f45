"""Who plays the simulated user, the director and the judge, as a config says it; world.py makes them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, Union

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PlainSerializer,
    PlainValidator,
    TypeAdapter,
    model_validator,
)

from mica_ray.chat.model import ChatModel
from mica_ray.chat.openai_api import Endpoint
from mica_ray.config.overrides import OBJECT_KEY, build_dataclass, build_object, describe_object
from mica_ray.dialogue.judger import Judge
from mica_ray.rollout.engine_config import EngineConfig
from mica_ray.types import ROLES

EMBEDDED = "embedded"
"""The policy the project makes itself (embedded/policy.py)."""
SCRIPTED = "scripted"
"""The role models of the embedded world (embedded/roles.py)."""
VLLM_PREFIX = "vllm:"
"""A role served by vLLM in the same Ray cluster: `vllm:MODEL`, a hub id or folder."""


def _read_role(role: object) -> object:
    """Make a role's value of what stands in a config or on the command line.

    Raises:
        ValueError: it names nothing that could play a role.
    """
    if isinstance(role, Mapping):
        fields = {str(key): value for key, value in role.items()}
        if OBJECT_KEY in fields:
            return _check_model(build_object(fields))
        return build_dataclass(Recording if "recording" in fields else Endpoint, fields)
    if not isinstance(role, str):
        return role if isinstance(role, Endpoint | Recording) else _check_model(role)
    if role == SCRIPTED or (role.startswith(VLLM_PREFIX) and role != VLLM_PREFIX):
        return role
    if ":" in role and not role.startswith(VLLM_PREFIX):
        return _check_model(build_object(role))
    raise ValueError(
        f"a role is {SCRIPTED!r}, {VLLM_PREFIX}MODEL, module:CLASS, an endpoint such as "
        f'{{"model": "...", "base_url": "http://.../v1"}} or {{"recording": "calls.jsonl"}}; got {role!r}'
    )


def _check_model(model: object) -> object:
    if isinstance(model, type) or not isinstance(model, ChatModel | Judge):
        raise ValueError(f"a role's object must have chat(), a judge's chat() or score(); got {model!r}")
    return model


def _describe_role(role: object) -> object:
    if role is None or isinstance(role, str):
        return role
    if isinstance(role, Recording):
        return {
            "recording": str(role.recording),
            "mode": role.mode,
            "inner": _describe_role(role.inner),
        }
    if isinstance(role, Endpoint):
        return TypeAdapter(Endpoint).dump_python(role, mode="json")
    return describe_object(role)


Player = Union[Endpoint, str, ChatModel, Judge]  # noqa: UP007 -- Protocols and types in one alias
"""Who answers: an OpenAI-compatible endpoint, "scripted", "vllm:MODEL", or an object of the user's own."""


def _read_inner(role: object) -> object:
    inner = None if role is None else _read_role(role)
    if isinstance(inner, Recording) or (inner is not None and not _chats(inner)):
        raise ValueError(f"a recording's inner role must be a model with chat(); got {inner!r}")
    return inner


def _chats(role: object) -> bool:
    return isinstance(role, Endpoint | Recording | str | ChatModel)


@dataclass(frozen=True, slots=True)
class Recording:
    """A role whose calls are written into a file, or answered from one (chat/recorded.py)."""

    recording: Path
    """JSON lines of calls."""
    mode: Literal["record", "replay"] = "replay"
    """record: ask `inner` and add its answers to the file. replay: ask nobody."""
    inner: Annotated[Player | None, PlainValidator(_read_inner)] = None
    """Who is recorded; not asked in a replay."""

    def __post_init__(self) -> None:
        """Refuse a recording of nobody."""
        if self.mode not in ("record", "replay"):
            raise ValueError(f'mode must be "record" or "replay"; got {self.mode!r}')
        if self.mode == "record" and self.inner is None:
            raise ValueError('mode "record" needs an inner role to record; got none')


RoleSource = Annotated[Player | Recording, PlainValidator(_read_role), PlainSerializer(_describe_role)]
"""Who plays a role, or the recording that does."""


class RoleConfig(BaseModel):
    """Who plays the simulated user, the director and the judge, and how they are asked."""

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)

    actor: RoleSource = SCRIPTED
    director: RoleSource = SCRIPTED
    judge: RoleSource = SCRIPTED
    max_tokens: int = Field(default=1024, ge=1)
    """Tokens of one answer at most; a judge writes 18 fields."""
    temperature: float = Field(default=0.0, ge=0)
    deadline_seconds: float = Field(default=180.0, gt=0)
    """For one answer with its retries."""
    engine: EngineConfig = EngineConfig(dtype="bfloat16", max_model_len=4096, kv_cache_gib=4.0)
    """Of each model that vLLM serves for a role; a judge reads rubric and dialogue before it writes."""
    num_engines: int = Field(default=1, ge=1)
    """Engines of each such model."""
    chat_template_arguments: dict[str, bool | int | str] = Field(default_factory=dict)
    """What their chat templates are given beside the messages, such as {"enable_thinking": false}."""

    @model_validator(mode="after")
    def _check_players(self) -> RoleConfig:
        """Refuse roles that cannot play together."""
        files: dict[Path, Recording] = {}
        for name in ROLES:
            role = getattr(self, name)
            if name != "judge" and not _chats(role):
                raise ValueError(f"{name}: {type(role).__name__} has no chat(); only a judge may score alone")
            if isinstance(role, Recording) and files.setdefault(role.recording, role) != role:
                raise ValueError(f"{name}: {role.recording} is another role's too; name a file for each")
        if self.served_models and self.max_tokens >= self.engine.max_model_len:
            raise ValueError(
                f"engine.max_model_len must be above max_tokens = {self.max_tokens}; "
                f"got {self.engine.max_model_len}"
            )
        return self

    @property
    def asked(self) -> Mapping[str, Player]:
        """Who is asked, by role; replayed roles are absent."""
        roles = {name: getattr(self, name) for name in ROLES}
        players = {
            name: (role.inner if role.mode == "record" else None) if isinstance(role, Recording) else role
            for name, role in roles.items()
        }
        return {name: player for name, player in players.items() if player is not None}

    @property
    def are_recorded(self) -> bool:
        """Whether a role's calls are recorded or replayed, so that timing must not matter."""
        return any(isinstance(getattr(self, name), Recording) for name in ROLES)

    @property
    def served_models(self) -> tuple[str, ...]:
        """The models that vLLM shall serve for roles, each once."""
        names = [player for player in self.asked.values() if isinstance(player, str)]
        return tuple(dict.fromkeys(name.partition(":")[2] for name in names if name.startswith(VLLM_PREFIX)))


def read_roles(roles: object) -> object:
    """Take one text for all three roles."""
    return dict.fromkeys(ROLES, roles) if isinstance(roles, str) else roles
