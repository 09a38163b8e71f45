"""What an error says about memory that ran out: which process, how much it used, and the limit.

Reads the messages of Ray's memory monitor and of torch. Callers add the settings that help.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import cast

from mica_ray.error_lines import first_line

_INNER = ("controller_failure", "health_check_failure", "cause", "_exc")
"""Attributes in which Ray and Ray Train keep the error behind an error."""
_KILLED = "killed due to the node running low on memory"
_NODE = re.compile(r"Memory on the node \(IP: ([^,)]+)[^)]*\) was ([\d.]+ ?GB) used / ([\d.]+ ?GB) limit")
_LIMIT = re.compile(r"exceeded threshold of \d+B \(([\d.]+)% of")
_VICTIM = re.compile(r"task name=([^,]*),.*?pid=(\d+), actual memory used=([\d.]+ ?GB)")
_USER = re.compile(r"^(\d+)\t([\d.]+)\t(.+)$", re.MULTILINE)
_TORCH = re.compile(r"[^\n]*(?:out of memory|can't allocate memory)[^\n]*")
_MAX_USERS = 3


def innermost(error: BaseException) -> BaseException:
    """Return the error behind the wrappers of Ray and Ray Train; of several ranks that of the lowest."""
    while (inner := next(_inside(error), None)) is not None:
        error = inner
    return error


def cause_line(error: BaseException) -> str:
    r"""Return what happened in one line: `memory_line`, or type and first line of the innermost error.

    >>> cause_line(RuntimeError("gloo: connection closed\nat ..."))
    'RuntimeError: gloo: connection closed'
    """
    cause = innermost(error)
    return memory_line(error) or f"{type(cause).__name__}: {first_line(cause)}"


def memory_line(error: BaseException) -> str:
    r"""Return the process that memory ran out for, its use and the limit; empty for any other error.

    >>> memory_line(RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has 79.10 GiB\n"))
    'CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has 79.10 GiB'
    """
    return next((line for line in map(_text, _chain(error)) if line), "")


def _chain(error: BaseException) -> Iterator[BaseException]:
    """Yield an error and those inside it, from the outside in."""
    seen: set[int] = set()
    waiting = [error]
    while waiting:
        one = waiting.pop(0)
        if id(one) in seen:
            continue
        seen.add(id(one))
        yield one
        waiting += _inside(one)


def _inside(error: BaseException) -> Iterator[BaseException]:
    """Yield the errors that one error wraps, those of a worker group by rank."""
    by_rank = cast("Mapping[int, object]", getattr(error, "worker_failures", None) or {})
    found = [by_rank[rank] for rank in sorted(by_rank)] + [getattr(error, name, None) for name in _INNER]
    for inner in found:
        if isinstance(inner, BaseException) and inner is not error:
            yield inner


def _text(error: BaseException) -> str:
    """Return the line about memory in one error's own message; empty if there is none."""
    message = str(error)
    if _KILLED in message:
        return _killed(message)
    found = _TORCH.search(message)
    return "" if found is None else found.group().strip()


def _killed(message: str) -> str:
    """Return the report of Ray's memory monitor as one clause."""
    victim, node, limit = (pattern.search(message) for pattern in (_VICTIM, _NODE, _LIMIT))
    name = "a process" if victim is None else f"{victim[1]} (pid {victim[2]}) with {victim[3]}"
    parts = [f"Ray killed {name}, because the memory was full"]
    if node is not None:
        allowed = "" if limit is None else f", of which Ray allows {float(limit[1]):g} %"
        parts.append(f"{node[2]} of {node[3]} used on node {node[1]}{allowed}")
    users = [f"{command.strip()} {size} GB" for _, size, command in _USER.findall(message)[:_MAX_USERS]]
    if users:
        parts.append(f"largest: {', '.join(users)}")
    return "; ".join(parts)
