"""The role models of a config: who plays the actor, the director and the judge.

launch/world.py builds the models from it.
"""

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
from mica_ray.checks import one_of
from mica_ray.config.overrides import OBJECT_KEY, build_dataclass, build_object, describe_object
from mica_ray.dialogue.judger import Judge
from mica_ray.rollout.engine_config import EngineConfig
from mica_ray.types import ROLES, RoleName

EMBEDDED = "embedded"
"""`policy=embedded`: the small policy that mica_ray trains itself (embedded/policy.py)."""
SCRIPTED = "scripted"
"""A role that rules play instead of a language model (embedded/roles.py)."""
VLLM_PREFIX = "vllm:"
"""`vllm:MODEL`: a role whose model, a hub id or folder, is served by vLLM in the same Ray cluster."""


def _read_role(role: object) -> object:
    """Convert a value of a config or of the command line to who plays a role.

    Raises:
        ValueError: the value is none of the forms of a role.
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
        f"a role must be {SCRIPTED!r}, {VLLM_PREFIX}MODEL, module:CLASS, an endpoint such as "
        f'{{"model": "...", "base_url": "http://.../v1"}} or {{"recording": "calls.jsonl"}}, got {role!r}.'
    )


def _check_model(model: object) -> object:
    if isinstance(model, type) or not isinstance(model, ChatModel | Judge):
        raise ValueError(f"a role's object must have chat(), or score() for the judge, got {model!r}.")
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
"""Who plays a role: an OpenAI-compatible endpoint, "scripted", "vllm:MODEL", or a user-defined object."""


def _read_inner(role: object) -> object:
    inner = None if role is None else _read_role(role)
    if isinstance(inner, Recording) or (inner is not None and not _chats(inner)):
        raise ValueError(f"inner must be a model with chat(), got {inner!r}.")
    return inner


def _chats(role: object) -> bool:
    return isinstance(role, Endpoint | Recording | str | ChatModel)


@dataclass(frozen=True, slots=True)
class Recording:
    """A role whose calls are written to a file, or answered from it (chat/recorded.py)."""

    recording: Path
    """File of JSON lines, one per call."""
    mode: Literal["record", "replay"] = "replay"
    """record: call `inner` and append its answers to the file. replay: answer from the file only."""
    inner: Annotated[Player | None, PlainValidator(_read_inner)] = None
    """Who plays the role while it is recorded; unused in a replay."""

    def __post_init__(self) -> None:
        """Check that there is someone to record."""
        one_of(("record", "replay"), mode=self.mode)
        if self.mode == "record" and self.inner is None:
            raise ValueError('mode "record" needs an inner role. Set "inner" to the role to record.')

    @property
    def called(self) -> Player | None:
        """The player that is called; None in a replay."""
        return self.inner if self.mode == "record" else None


RoleSource = Annotated[Player | Recording, PlainValidator(_read_role), PlainSerializer(_describe_role)]
"""The value of a role in a config: a player or a recording."""


Seat = RoleName | Literal["audit_judge"]
"""A key of `RoleConfig` that says who plays: the three roles, and the judge of the audit."""


class RoleConfig(BaseModel):
    """Who plays the simulated user, the director and the judges, and how they are called."""

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)

    actor: RoleSource = SCRIPTED
    director: RoleSource = SCRIPTED
    judge: RoleSource = SCRIPTED
    audit_judge: RoleSource | None = None
    """Second judge that scores some training dialogues again, as `audit` says; None for no audit."""
    max_tokens: int = Field(default=1024, ge=1)
    """Maximum tokens of one answer; a judge writes 18 fields."""
    temperature: float = Field(default=0.0, ge=0)
    deadline_seconds: float = Field(default=180.0, gt=0)
    """Maximum time of one answer, retries included."""
    engine: EngineConfig = EngineConfig(dtype="bfloat16", max_model_len=4096, kv_cache_gib=4.0)
    """Engine of each model that vLLM serves for a role. A judge reads rubric and dialogue, so the context is
    longer than the policy's."""
    num_engines: int = Field(default=1, ge=1)
    """Engines per served model."""
    chat_template_arguments: dict[str, bool | int | str] = Field(default_factory=dict)
    """Extra arguments of the served models' chat templates, such as {"enable_thinking": false}."""
    shows_needs: bool | None = None
    """Whether language models see the user's initial needs and their order, as scripted roles always do.
    None: endpoints, models that vLLM serves and replays see what EMPA's roles see; objects see what the
    domain shows."""

    @model_validator(mode="after")
    def _check_players(self) -> RoleConfig:
        """Check that each role can be played, and that no two recordings share a file."""
        files: dict[Path, Recording] = {}
        for name, role in self.sources.items():
            if name not in ("judge", "audit_judge") and not _chats(role):
                raise ValueError(
                    f"{name}: {type(role).__name__} has no chat(). Only a judge can have score() instead."
                )
            if isinstance(role, Recording) and files.setdefault(role.recording, role) != role:
                raise ValueError(
                    f"{name}: {role.recording} is already used by another role. Use one file per role."
                )
        if self.audit_judge == self.judge:
            raise ValueError(
                f"audit_judge must be another judge than roles.judge, got {self.judge!r} for both. A judge "
                "agrees with itself."
            )
        if self.served_models and self.max_tokens >= self.engine.max_model_len:
            raise ValueError(
                f"engine.max_model_len must be > max_tokens ({self.max_tokens}), "
                f"got {self.engine.max_model_len}. The prompt needs room too."
            )
        return self

    @property
    def sources(self) -> Mapping[Seat, Player | Recording]:
        """The three roles and the audit judge, if there is one, by name."""
        roles: dict[Seat, Player | Recording] = {
            "actor": self.actor,
            "director": self.director,
            "judge": self.judge,
        }
        return roles if self.audit_judge is None else {**roles, "audit_judge": self.audit_judge}

    @property
    def players(self) -> Mapping[Seat, Player]:
        """Players that are called, by role; replayed roles are absent."""
        called: dict[Seat, Player] = {}
        for name, role in self.sources.items():
            player = role.called if isinstance(role, Recording) else role
            if player is not None:
                called[name] = player
        return called

    @property
    def are_recorded(self) -> bool:
        """Whether calls of a role are recorded or replayed, so that timing must not change a reply."""
        return any(isinstance(role, Recording) for role in self.sources.values())

    @property
    def served_models(self) -> tuple[str, ...]:
        """Models that vLLM serves for roles, without duplicates."""
        names = [player for player in self.players.values() if isinstance(player, str)]
        return tuple(dict.fromkeys(name.partition(":")[2] for name in names if name.startswith(VLLM_PREFIX)))


def read_roles(roles: object) -> object:
    """Expand one text to all three roles."""
    return dict.fromkeys(ROLES, roles) if isinstance(roles, str) else roles
