"""One line of an error, for a message that has room for no more."""

from __future__ import annotations


def first_line(error: BaseException) -> str:
    """Give what an error says first; its type where it says nothing."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def last_line(error: BaseException) -> str:
    """Give what an error says last, where a worker's own error stands below its traceback."""
    return (str(error).strip().splitlines() or [type(error).__name__])[-1]
