"""What an endpoint says about a request it did not answer: any body, as one line, with its kind.

chat/openai_api.py turns it into a ChatError; chat/completion.py finds such errors inside answers.
"""

from __future__ import annotations

import html
import json
import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final, Literal, cast

from mica_ray.secrets import redact
from mica_ray.valid_text import valid_text

_NO_FIELDS: Final[Mapping[str, object]] = {}
_LONGEST_LINE: Final = 300
"""Characters of an endpoint's text in a message."""
_READ_CHARACTERS: Final = 20_000
"""A longer body is cut first: some servers answer with whole pages."""
_LEVELS: Final = 8
"""Maximum depth of a message within a body."""

_MESSAGES: Final = (
    "error", "message", "faultstring", "detail", "details", "msg", "errors", "errordescription",
    "errormessage", "errormsg", "description", "title", "reason", "fault", "baseresp", "statusmsg", "err",
    "innererror",
)  # fmt: skip
"""Fields, as `plain_name` writes them, that contain the message, in the order in which they are tried."""
_EXTRAS: Final = ("code", "type", "error_type", "status", "param")
"""Fields that are appended to a message that does not contain their value."""

_NO_CREDIT: Final = {
    "insufficient_quota",
    "billing_hard_limit_reached",
    "billing_error",
    "insufficient_balance",
}
_FILTERED: Final = {"content_filter", "content_policy_violation", "responsibleaipolicyviolation"}
_REFUSED: Final = {
    "invalid_request_error", "authentication_error", "permission_error", "not_found_error", "not_found",
    "invalid_api_key", "model_not_found", "unauthorized", "forbidden", "invalid_argument", "unauthenticated",
    "permission_denied", "failed_precondition", "context_length_exceeded", "unsupported_parameter",
    "unsupported_value", "validation", "request_too_large", "bad_request", "badrequesterror", "notfounderror",
    "invalid_model", "tool_use_failed",
}  # fmt: skip
_TRANSIENT_STATUSES: Final = (408, 409, 425, 429)

Reason = Literal["overloaded", "no_credit", "filtered", "refused"]

_HTML = re.compile(r"<(?:!doctype|\?xml|html|head|body|title|h1|p|center)\b", re.IGNORECASE)
_HTML_UNSEEN = re.compile(
    r"<(script|style|svg)\b.*?(?:</\1\s*>|$)|<!--.*?(?:-->|$)", re.IGNORECASE | re.DOTALL
)


@dataclass(frozen=True, slots=True)
class EndpointError:
    """An error that an endpoint reported, by its status or inside an answer with status 200."""

    said: str
    """What the endpoint says: one line, at most 300 characters, without secrets."""
    status: int | None
    """HTTP status, or the code in the body; None if unknown."""
    codes: frozenset[str]
    """Names of the error that the body contains, in lower case."""
    payload: object
    """The parsed body, or its text."""

    @property
    def reason(self) -> Reason:
        """Why there is no answer. An unknown error inside a status 200 counts as a failure of the server."""
        if self.codes & _NO_CREDIT or self.status == 402:
            return "no_credit"
        if self.codes & _FILTERED:
            return "filtered"
        if self.status is None:
            return "refused" if self.codes & _REFUSED else "overloaded"
        return "overloaded" if self.status in _TRANSIENT_STATUSES or self.status >= 500 else "refused"

    def parameter(self, sent: Iterable[str]) -> str | None:
        """Return the field of the request that the error names; None if it names none.

        Args:
            sent: fields of the request that may be at fault.
        """
        names = sorted(sent, key=len, reverse=True)
        pointed = {name for text in _pointers(self.payload) for name in re.findall(r"\w+", text)}
        for name in names:
            if name in pointed:
                return name
        text = one_line(message_of(self.payload), longest=_READ_CHARACTERS)
        # Quoted first: "stop" and "user" are also ordinary words.
        for pattern in (r"['\"`]{}['\"`]", r"\b{}\b"):
            places = [
                (found.start(), name)
                for name in names
                if (found := re.search(pattern.format(re.escape(name)), text))
            ]
            if places:
                return min(places)[1]
        return None


def read_error(body: bytes | object, status: int | None = None) -> EndpointError:
    """Read the error in a body.

    Args:
        body: the response's bytes, or a part of a parsed answer.
        status: HTTP status; None if the answer had a status 200.
    """
    payload = parsed(body) if isinstance(body, bytes) else body
    said = one_line(message_of(payload)) or "an empty body"
    codes = {text.lower() for text in _codes(payload)}
    status = status or next((int(code) for code in codes if re.fullmatch(r"[45]\d\d", code)), None)
    return EndpointError(said, status, frozenset(codes), payload)


def parsed(body: bytes) -> object:
    """Return a body as JSON value, or as text if it is no JSON. Invalid UTF-8 becomes U+FFFD."""
    text = body.decode("utf-8-sig", "replace").strip()
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def one_line(text: str, longest: int = _LONGEST_LINE) -> str:
    """Return foreign text as one printable line without secrets, cut at `longest` characters."""
    spaced = "".join(
        " " if unicodedata.category(character) in ("Cc", "Zl", "Zp") else character
        for character in valid_text(text[:_READ_CHARACTERS])
        if unicodedata.category(character) != "Cf"
    )
    line = redact(" ".join(spaced.split()))
    return line if len(line) <= longest else f"{line[: longest - 1]}…"


def message_of(body: object, level: int = 0) -> str:
    """Return the message in a parsed body of any shape; the body itself if no part is known as one."""
    if isinstance(body, str):
        text = body[:_READ_CHARACTERS]
        return _page_text(text) if _HTML.search(text) else text
    if body is None or body == {} or body == []:
        return ""
    if items := as_list(body)[:3] if level < _LEVELS else []:
        return "; ".join(text for item in items if (text := message_of(item, level + 1)))
    return _message_field(as_fields(body), level) or _as_json(body)


def _message_field(fields: Mapping[str, object], level: int) -> str:
    if level >= _LEVELS:
        return ""
    plain = {plain_name(name): value for name, value in fields.items()}
    found = (message_of(plain[name], level + 1) for name in _MESSAGES if _is_text(plain.get(name)))
    message = next((text for text in found if text), "")
    return _with_extras(message, fields) if message else ""


def plain_name(name: str) -> str:
    """Return the name of a field in lower case without separators: endpoints spell it in every way."""
    return re.sub(r"[^a-z]", "", name.lower())


def _as_json(body: object) -> str:
    try:
        return json.dumps(body, ensure_ascii=False)
    except (ValueError, RecursionError):
        return ""


def as_fields(value: object) -> Mapping[str, object]:
    """Return a JSON object; an empty one in place of any other value."""
    return cast("Mapping[str, object]", value) if isinstance(value, Mapping) else _NO_FIELDS


def as_list(value: object) -> list[object]:
    """Return a JSON array; an empty one in place of any other value."""
    return cast("list[object]", value) if isinstance(value, list) else []


def _is_text(value: object) -> bool:
    return bool(isinstance(value, str) and value) or bool(as_fields(value)) or bool(as_list(value))


def _with_extras(message: str, fields: Mapping[str, object]) -> str:
    """Add code, type and parameter to a message, and the cause that a gateway passes on."""
    if where := as_list(fields.get("loc")):
        message = f"{'.'.join(map(str, where))}: {message}"
    extras = [
        f"{name} {value}"
        for name in _EXTRAS
        if isinstance(value := fields.get(name), str | int) and str(value) and str(value) not in message
    ]
    if raw := as_fields(fields.get("metadata")).get("raw"):
        message += f": {message_of(parsed(raw.encode('utf-8', 'replace')) if isinstance(raw, str) else raw)}"
    return f"{message} ({', '.join(extras)})" if extras else message


def _page_text(page: str) -> str:
    return html.unescape(re.sub(r"<[^>]*>", " ", _HTML_UNSEEN.sub(" ", page)))


def _codes(payload: object, level: int = 0) -> Iterator[str]:
    """Yield the codes and types of an error, the outermost first."""
    if level > _LEVELS:
        return
    for item in as_list(payload)[:3]:
        yield from _codes(item, level + 1)
    fields = {plain_name(name): value for name, value in as_fields(payload).items()}
    for name in ("code", "status", "type", "errortype", "statuscode", "errorcode"):
        value = fields.get(name)
        if isinstance(value, str | int) and not isinstance(value, bool):
            yield str(value)
    for name in ("error", "innererror", "message", "detail", "errors", "fault", "baseresp"):
        if name in fields:
            yield from _codes(fields[name], level + 1)


def _pointers(payload: object, level: int = 0) -> Iterator[str]:
    """Yield the places to which an error points: OpenAI's `param`, the `loc` of pydantic."""
    if level > _LEVELS:
        return
    for item in as_list(payload)[:20]:
        yield from _pointers(item, level + 1)
    for name, value in as_fields(payload).items():
        if name in ("param", "parameter", "field") and isinstance(value, str):
            yield value
        elif name == "loc":
            yield " ".join(map(str, as_list(value)))
        else:
            yield from _pointers(value, level + 1)
