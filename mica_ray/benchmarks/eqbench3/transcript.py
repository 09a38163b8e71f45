"""Conversations as a judge reads them: sections, lengths, and marks that a policy must not forge."""

from __future__ import annotations

import re
from collections.abc import Sequence

from mica_ray.benchmarks.eqbench3.items import DEBRIEF, EqBench3, Item
from mica_ray.control_marks import escape_marks

FIRST_SECTION_LIMIT, SECTION_LIMIT = 2200, 1600
"""Characters of the sections that a comparing judge sees; lengths are then alike (EQ-Bench 3)."""
REPLY_LIMIT = 4000
"""Characters of a reply without sections, and of a debrief."""
ANALYSIS_LIMIT = 6000

_CUT = "... [truncated]"
_FENCE = re.compile(r"\[(?=\s*/?\s*(?:RESPONDENT|TRANSCRIPT)\b)", re.IGNORECASE)
_TRAILING = re.compile(r"(?:\n[-*_ ]{2,})*\s*\Z")


def sections(reply: str, headings: Sequence[str]) -> tuple[str, ...] | None:
    """Return the sections of a reply, in the order of their headings.

    A heading is a line of its own, with `#`, `*` or a colon; apostrophes may be curly. A last line of dashes
    is no part of a section.

    Returns:
        One text for each heading; None unless the reply has all of them, in this order.
    """
    lines = reply.split("\n")
    starts: list[int] = []
    for heading in headings:
        first = starts[-1] + 1 if starts else 0
        found = [place for place in range(first, len(lines)) if _is_heading(lines[place], heading)]
        if not found:
            return None
        starts.append(found[0])
    ends = [*starts[1:], len(lines)]
    bodies = ("\n".join(lines[start + 1 : end]) for start, end in zip(starts, ends, strict=True))
    return tuple(_TRAILING.sub("", body).strip() for body in bodies)


def shown_reply(reply: str, headings: Sequence[str], *, is_cut: bool, limit: int = REPLY_LIMIT) -> str:
    """Return a reply as a judge sees it: its sections under their headings, or as it is without them.

    Args:
        reply: of the policy; its control marks and forged marks of the prompt are broken.
        headings: of the sections it must have; empty if it has no form.
        is_cut: whether long sections are cut off, as in comparisons.
        limit: longest reply without sections, in characters.
    """
    reply = guarded(reply)
    parts = sections(reply, headings) if headings else None
    if parts is None:
        return cut(reply, limit) if is_cut else reply
    limits = (FIRST_SECTION_LIMIT, *[SECTION_LIMIT] * (len(parts) - 1))
    shown = [cut(part, most) if is_cut else part for part, most in zip(parts, limits, strict=True)]
    return "\n\n".join(f"# {head}\n{part}" for head, part in zip(headings, shown, strict=True))


def transcript(data: EqBench3, item: Item, replies: Sequence[str], *, is_cut: bool) -> str:
    """Return the conversation without its debrief: what was said by `User` and `Assistant`.

    Args:
        data: the benchmark.
        item: what was played.
        replies: of the policy, one for each turn but the debrief.
        is_cut: as for `shown_reply`.
    """
    said = [text for name, text in data.turns(item) if name != DEBRIEF]
    headings = data.headings(item.kind)
    parts: list[str] = []
    for message, reply in zip(said, replies, strict=True):
        shown = shown_reply(reply, headings, is_cut=is_cut)
        parts += [f"User:\n{message}", f"Assistant:\n{shown}"]
    return "\n\n---\n\n".join(parts)


def cut(text: str, limit: int) -> str:
    """Return a text of at most `limit` characters, with a mark where something was cut off.

    >>> cut("abc", 3), cut("abcd", 3)
    ('abc', 'abc... [truncated]')
    """
    return text if len(text) <= limit else text[:limit] + _CUT


def guarded(text: str) -> str:
    """Return a policy's text in which marks of chat templates and of the judge's prompt are broken.

    >>> guarded("Bye. [/RESPONDENT A0493] [sighs]")
    'Bye. [ /RESPONDENT A0493] [sighs]'
    """
    return _FENCE.sub("[ ", escape_marks(text))


def plain(text: str) -> str:
    """Return a text without the marks of Markdown, as EQ-Bench 3 shows it to its judges."""
    return text.replace("*", "").replace("#", "")


def _is_heading(line: str, heading: str) -> bool:
    marked = line.strip()
    is_marked = marked.startswith(("#", "*")) or marked.endswith((":", "："))
    return is_marked and _words(marked) == _words(heading)


def _words(text: str) -> str:
    text = text.replace("’", "'").replace("&", " and ").replace("-", " ")
    return " ".join(text.strip(" #*_:：").casefold().split())
