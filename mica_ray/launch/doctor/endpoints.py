"""One structured request to each endpoint of a run: what it accepts, how long it takes, what it costs."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

from mica_ray.chat.endpoint import Endpoint
from mica_ray.chat.model import ChatError, ChatReply
from mica_ray.config.role_config import Seat
from mica_ray.config.run_config import RunConfig
from mica_ray.launch.doctor.finding import Finding
from mica_ray.launch.world import endpoint_chat, role_price
from mica_ray.types import Message, Sampling

_MAX_SETTINGS = 8
"""Settings that are tried one after another before the probe gives up."""
_REQUEST_SECONDS = 60.0
_SCHEMA = {
    "type": "object",
    "properties": {"reason": {"type": "string"}, "level": {"type": "integer"}},
    "required": ["reason", "level"],
    "additionalProperties": False,
}
_MESSAGES: Sequence[Message] = (
    {"role": "system", "content": "Answer with one JSON object and nothing else."},
    {
        "role": "user",
        "content": 'Rate the reply "I am listening." from 0 to 3, as {"reason": "a few words", "level": 2}.',
    },
)
_SETTING = re.compile(r"Set (\w+)=(.+?) for this endpoint")
"""The remedy for a rejected field in the text of a ChatError (chat/request_body.py)."""
_IMPERATIVE = re.compile(r"(?:Add|Change|Check|Lower|Raise|Remove|Set|Turn|Use|Wait)\b")
"""How the remedy of a ChatError begins."""
_UNUSED = "top_p"
"""A field that the probe sends and roles do not."""

DEADLINE_SECONDS = 180.0
"""Deadline of one endpoint's probe."""


@dataclass(frozen=True, slots=True)
class _Outcome:
    """How a probe ended."""

    endpoint: Endpoint
    """With the settings that it needed."""
    settings: Mapping[str, object]
    """Those that the config lacks."""
    reply: ChatReply | ChatError
    is_structured: bool = False
    """Whether the reply is the JSON object that was asked for."""


def endpoints_of(config: RunConfig) -> Sequence[tuple[Endpoint, tuple[Seat, ...]]]:
    """Return each endpoint of a config once, with the roles that it plays."""
    roles: dict[str, tuple[Endpoint, tuple[Seat, ...]]] = {}
    for name, player in config.roles.players.items():
        if isinstance(player, Endpoint):
            _, names = roles.get(repr(player), (player, ()))
            roles[repr(player)] = (player, (*names, name))
    return tuple(roles.values())


def probe_endpoint(
    endpoint: Endpoint, names: Sequence[Seat], config: RunConfig, environment: Mapping[str, str]
) -> Finding:
    """Send one structured request, again without each rejected field, and describe the answer.

    Args:
        endpoint: to ask.
        names: of the roles that it plays.
        config: of the run, with the sampling of the roles.
        environment: variables that contain the API key.

    Raises:
        ConfigError: the API key is not set.
    """
    sampling = Sampling(
        temperature=config.roles.temperature, max_tokens=config.roles.max_tokens, top_p=0.95, seed=1
    )
    outcome = asyncio.run(_probe(endpoint, environment, sampling))
    subject = f"roles.{', roles.'.join(names)}"
    if isinstance(outcome.reply, ChatError):
        return _failure(subject, str(outcome.reply))
    return _describe(subject, names, endpoint, outcome, outcome.reply)


async def _probe(endpoint: Endpoint, environment: Mapping[str, str], sampling: Sampling) -> _Outcome:
    seconds = min(endpoint.timeout_seconds, _REQUEST_SECONDS)
    candidate = replace(
        endpoint, attempts=min(2, endpoint.attempts), timeout_seconds=seconds, deadline_seconds=seconds
    )
    settings: dict[str, object] = {}
    reply: ChatReply | ChatError
    for _ in range(_MAX_SETTINGS + 1):
        chat = endpoint_chat(candidate, environment)
        try:
            reply = await chat.chat(_MESSAGES, sampling, _SCHEMA)
            return _Outcome(candidate, settings, reply, _is_structured(reply.text))
        except ChatError as error:
            reply = error
            needed = _needed_setting(error)
        finally:
            await chat.close()
        if needed is None or needed in settings.items():
            break
        settings.update([needed])
        candidate = replace(candidate, **dict([needed]))
    return _Outcome(candidate, settings, reply)


def _failure(subject: str, message: str) -> Finding:
    """Split an error at its last sentence: what the endpoint says may have several."""
    found, _, fix = message.rpartition(". ")
    if not _IMPERATIVE.match(fix):
        found, fix = message, "Check the endpoint, and ask it again."
    return Finding(subject, "failed", found.rstrip("."), fix)


def _needed_setting(error: ChatError) -> tuple[str, Any] | None:
    """Return the key and value that the error's remedy names; None if it names none."""
    match = _SETTING.search(str(error))
    if match is None or match[1] not in {field.name for field in fields(Endpoint)}:
        return None
    try:
        value = json.loads(match[2])
    except ValueError:
        return None
    return match[1], tuple(value) if isinstance(value, list) else value


def _describe(
    subject: str, names: Sequence[Seat], endpoint: Endpoint, outcome: _Outcome, reply: ChatReply
) -> Finding:
    candidate = outcome.endpoint
    # The probe's own request is left out again: a run does not send top_p.
    added = [name for name in candidate.omit if name not in (*endpoint.omit, _UNUSED)]
    wanted = {name: value for name, value in outcome.settings.items() if name != "omit"}
    if added:
        wanted["omit"] = [*endpoint.omit, *added]
    usd = role_price(endpoint).of(reply.prompt_tokens, reply.completion_tokens)
    price = f"{usd:.2g} USD" if usd else "no price configured"
    found = (
        f"{reply.model} answers in {reply.seconds:.1f} s; accepts {', '.join(_accepted(candidate))}; "
        f"{reply.prompt_tokens} + {reply.completion_tokens} tokens, {price}"
    )
    if wanted:
        rejected = f"{found}; rejects what the config sends"
        return Finding(subject, "failed", rejected, f"Add {' '.join(_set_options(names, wanted))}")
    if not outcome.is_structured:
        found = f"{found}; the answer is not the JSON object that was asked for"
        return Finding(subject, "warning", found, "Roles repair such answers; another model is safer.")
    return Finding(subject, "ok", found)


def _accepted(endpoint: Endpoint) -> list[str]:
    """Return the optional parts of a request that the endpoint accepted."""
    omitted = endpoint.omit
    structured = endpoint.structured_output
    optional = ("seed", "temperature", _UNUSED, endpoint.token_limit_name)
    format_sent = structured != "none" and "response_format" not in omitted
    return [
        *([structured] if format_sent else ["no response format"]),
        *(n for n in optional if n not in omitted),
    ]


def _set_options(names: Sequence[Seat], settings: Mapping[str, object]) -> list[str]:
    return [
        f"--set 'roles.{name}.{key}={json.dumps(value)}'" for name in names for key, value in settings.items()
    ]


def _is_structured(text: str) -> bool:
    try:
        answer: object = json.loads(text)
    except ValueError:
        return False
    return isinstance(answer, dict) and "level" in answer
