"""The first or last line of an error, for messages of a single line. Secrets are redacted."""

from __future__ import annotations

from mica_ray.secrets import redact


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message, or its type if the message is empty.

    >>> first_line(ValueError(" no room on the disk ")), first_line(KeyError())
    ('no room on the disk', 'KeyError')
    """
    return _lines(error)[0]


def last_line(error: BaseException) -> str:
    """Return the last line of an error's message, or its type if the message is empty.

    Ray puts a worker's own error below its traceback.
    """
    return _lines(error)[-1]


def _lines(error: BaseException) -> list[str]:
    return redact(str(error)).strip().splitlines() or [type(error).__name__]
