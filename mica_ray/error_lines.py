"""The first or last line of an error, for messages of a single line. Secrets are redacted."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from mica_ray.secrets import redact

_MAX_CHARACTERS = 300
"""Of a library's message inside one of ours."""


@contextmanager
def raised_as(kind: type[Exception], problem: str, remedy: str) -> Iterator[None]:
    """Convert whatever a library raises in this block into one error of ours: `PROBLEM (its text). REMEDY`.

    For calls into libraries that read foreign files. They raise their own classes, KeyError, AttributeError
    or a Rust panic, depending on the fault of the file.

    >>> with raised_as(ValueError, "Model m cannot be loaded", "Download it again."):
    ...     {}["model_type"]
    Traceback (most recent call last):
    ValueError: Model m cannot be loaded (KeyError: 'model_type'). Download it again.

    Args:
        kind: of our error; an error of this kind passes unchanged.
        problem: what failed, with the name of the file or folder.
        remedy: what the user can do.
    """
    try:
        yield
    except BaseException as error:
        # A panic of a Rust extension is no Exception.
        is_panic = type(error).__module__ == "pyo3_runtime"
        if isinstance(error, kind) or not (isinstance(error, Exception) or is_panic):
            raise
        raise kind(f"{problem} ({_whole_line(error)}). {remedy}") from error


def _whole_line(error: BaseException) -> str:
    """Return the type and the whole message in one line; the first line of a library seldom suffices."""
    text = " ".join(redact(str(error)).split())
    if len(text) > _MAX_CHARACTERS:
        text = f"{text[:_MAX_CHARACTERS]}..."
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


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
