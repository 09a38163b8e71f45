"""Checks API keys where they are read, and removes secrets from every text that is printed, stored or sent.

The keys of a process are registered here once; chat/model.py, error_lines.py, the command line and all log
records call `redact`.
"""

from __future__ import annotations

import json
import logging
import os
import re
import unicodedata
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import quote, urlsplit

REDACTED: Final = "[redacted]"

FRAGMENT_LENGTH: Final = 8
"""Characters. A part of a secret of this length is redacted; shorter parts occur in ordinary text."""

_SHORTEST_SECRET: Final = 5
"""Characters. Shorter values, such as "key" or "none", stand for no key at all."""
_LONG_SECRET: Final = 16
"""Characters. No ordinary text contains a whole key of this length."""

_SECRET_NAME = re.compile(
    r"(?:^|[_-])(?:API[_-]?KEY|KEY|TOKEN|SECRET|PASSWORD|PASSWD|PGPASSWORD|CREDENTIALS?)$", re.IGNORECASE
)
_BEARER = re.compile(r"\b(Bearer\s+|Authorization:\s*Basic\s+)(?=[^\s\"',;]*\d)[^\s\"',;]{8,}", re.IGNORECASE)
_KEY_FORMS = re.compile(
    r"\b(?:(?:sk|rk|pk|xai|glpat)-|(?:hf|ghp|gho|gsk|github_pat|r8)_|AIza)(?=[A-Za-z0-9_-]*\d)[A-Za-z0-9_-]{16,}"
)
"""Keys of well-known providers, which are redacted even if they were never registered."""
_URL_PASSWORD = re.compile(r"\b([a-z][a-z0-9+.-]{1,30}://)[^\s/@:?#\"']*:[^\s/@\"']*@", re.IGNORECASE)
_URL_TOKEN = re.compile(r"\b(https?://)[^\s/@:?#\"']+@", re.IGNORECASE)
_MASKED = re.compile(r"(?<![A-Za-z0-9_-])([A-Za-z0-9_-]*)(?:[*•…]{2,}|…|\.{3,}|[xX]{4,})([A-Za-z0-9_-]*)")
_LEAST_EDGE: Final = 2
"""Characters. A masked text such as sk-ab***yz is a key's if its parts are this long and fit."""

_QUOTES: Final = "\"'`"

_secrets: set[str] = set()
_fragments: dict[int, set[str]] = {}
"""Parts of secrets that are redacted, by length."""


def read_key(environment: Mapping[str, str], name: str) -> str:
    """Return the API key in an environment variable, checked and registered as a secret.

    Args:
        environment: variables of the process.
        name: of the variable, for messages.

    Raises:
        ValueError: the variable is not set, or contains a character that no key has. The message contains the
            variable and the position, never the key.
    """
    return checked_key(environment.get(name, ""), name)


def checked_key(value: str, name: str) -> str:
    r"""Return a key without surrounding white space, and register it as a secret.

    >>> checked_key(" sk-1234\r\n", "MY_KEY")
    'sk-1234'

    Args:
        value: as it was read; line ends and spaces around it come from files and shells.
        name: of the variable or setting, for messages.

    Raises:
        ValueError: the key is empty, or contains white space, control, invisible or non-ASCII characters.
    """
    register_secret(value)
    start = len(value) - len(value.lstrip())
    key = value.strip()
    if not key:
        problem = "contains only white space" if value else "is not set"
        raise ValueError(f"{name} {problem}. Export the API key in it; any text if none is needed.")
    if key[0] in _QUOTES or key[-1] in _QUOTES:
        raise ValueError(f"{name} is in quotation marks. Export the key without them.")
    for position, character in enumerate(key, start=start + 1):
        if not "!" <= character <= "~":
            raise ValueError(
                f"{name} contains {_described(character)} at position {position} of {len(value)}. No API key "
                "has one. Copy the key again, without quotation marks, line breaks or invisible characters."
            )
    return key


def _described(character: str) -> str:
    category = unicodedata.category(character)
    kind = {"Zs": "a space", "Cc": "a control character", "Cf": "an invisible character"}.get(
        category, "a non-ASCII character"
    )
    return f"{kind} (U+{ord(character):04X})"


def register_secret(value: str) -> None:
    """Redact this value, and each longer part of it, from now on. Log records are covered too.

    Args:
        value: a key, password or token; values that are too short to be one are ignored.
    """
    for part in re.split(r"[^!-~]+", value):
        is_secret = len(part) >= FRAGMENT_LENGTH or any(character.isdigit() for character in part)
        if len(part) >= _SHORTEST_SECRET and is_secret and part not in _secrets:
            _secrets.add(part)
            for form in (part, quote(part, safe=""), json.dumps(part)[1:-1]):
                _add_fragments(form)
    if _secrets:
        _guard_logs()


def register_environment(environment: Mapping[str, str]) -> None:
    """Register the variables that contain secrets by their names, and the passwords of proxies and stores.

    A path of an existing file, such as a TLS key's, is no secret.
    """
    for name, value in environment.items():
        if is_secret_name(name):
            if not os.path.exists(value):
                register_secret(value)
        elif "://" in value and "@" in value:
            register_url(value)


def register_url(url: str) -> None:
    """Register the password in an address, such as that of a proxy or database."""
    authority = url.partition("://")[2].partition("/")[0]
    login, found, _ = authority.rpartition("@")
    if found:
        register_secret(login.partition(":")[2] or login)


def has_login(url: str) -> bool:
    """Return whether an address contains a password, or any login in front of a web address."""
    parts = urlsplit(url)
    return parts.password is not None or (parts.username is not None and parts.scheme in ("http", "https"))


def is_secret_name(name: str) -> bool:
    """Return whether a variable or parameter of this name usually contains a secret."""
    return _SECRET_NAME.search(name) is not None


def looks_like_key(text: str) -> bool:
    """Return whether a text without any separator mixes digits, capitals and small letters, as keys do."""
    kinds = (str.isdigit, str.isupper, str.islower)
    return len(text) >= 20 and "_" not in text and all(any(map(kind, text)) for kind in kinds)


def _add_fragments(form: str) -> None:
    length = min(len(form), FRAGMENT_LENGTH)
    starts = range(len(form) - length + 1)
    _fragments.setdefault(length, set()).update(form[start : start + length] for start in starts)


def redact(text: str) -> str:
    """Return the text without registered secrets, long or masked parts of them, and logins in addresses.

    >>> register_secret("sk-live-123456789")
    >>> redact("Incorrect API key provided: sk-li****789. The request had sk-live-1234567.")
    'Incorrect API key provided: [redacted]. The request had [redacted].'
    >>> redact("postgresql://mica:hunter2@db/runs")
    'postgresql://[redacted]@db/runs'
    """
    if "://" in text and "@" in text:
        text = _URL_TOKEN.sub(rf"\1{REDACTED}@", _URL_PASSWORD.sub(rf"\1{REDACTED}@", text))
    text = _KEY_FORMS.sub(REDACTED, _BEARER.sub(rf"\1{REDACTED}", text))
    if not _secrets:
        return text
    return _MASKED.sub(_without_mask, _without_fragments(text))


def redact_whole(text: str) -> str:
    """Return a model's text without whole registered keys; other text that resembles one is left as it is.

    Args:
        text: which an endpoint that repeats its request may have written.
    """
    for secret in _secrets:
        if len(secret) >= _LONG_SECRET and secret in text:
            text = text.replace(secret, REDACTED)
    return text


def _without_fragments(text: str) -> str:
    """Replace every stretch of the text that consists of fragments of secrets."""
    kept: list[str] = []
    end = 0  # Of the stretch or ordinary text that is already in `kept`.
    for start, stop in _stretches(text):
        kept += (text[end:start], REDACTED)
        end = stop
    return "".join(kept) + text[end:]


def _stretches(text: str) -> list[tuple[int, int]]:
    found: list[tuple[int, int]] = []
    for length, fragments in _fragments.items():
        starts = range(len(text) - length + 1)
        found += [(start, start + length) for start in starts if text[start : start + length] in fragments]
    merged: list[tuple[int, int]] = []
    for start, stop in sorted(found):
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(stop, merged[-1][1]))
        else:
            merged.append((start, stop))
    return merged


def _without_mask(match: re.Match[str]) -> str:
    head, tail = match.groups()
    is_known = len(head) + len(tail) >= _LEAST_EDGE and any(
        secret.startswith(head) and secret.endswith(tail) for secret in _secrets
    )
    return REDACTED if is_known else match.group()


def _guard_logs() -> None:
    """Redact every log record of this process, whichever handler writes it."""
    make = logging.getLogRecordFactory()
    if getattr(make, "redacts", False):
        return

    def guarded(*args: Any, **kwargs: Any) -> logging.LogRecord:
        return _redacted_record(make(*args, **kwargs))

    guarded.redacts = True  # pyright: ignore[reportFunctionMemberAccess] -- marks the factory as installed
    logging.setLogRecordFactory(guarded)


def _redacted_record(record: logging.LogRecord) -> logging.LogRecord:
    try:
        message = record.getMessage()
    except Exception:
        return record  # The handler reports the wrong format.
    clean = redact(message)
    if clean != message:
        record.msg, record.args = clean, None
    if record.exc_info and record.exc_info[0] is not None:
        # A formatter prints this text instead of the traceback.
        record.exc_text = redact(logging.Formatter().formatException(record.exc_info))
    return record
