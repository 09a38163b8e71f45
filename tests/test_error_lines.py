"""The first and last line of an error, with or without a message."""

from __future__ import annotations

import pytest

from mica_ray.error_lines import first_line, last_line, raised_as


def test_first_and_last_line_have_no_blanks_around_them() -> None:
    error = ValueError("\n  no room\n  on the disk\nof node 3 \n")
    assert (first_line(error), last_line(error)) == ("no room", "of node 3")


def test_error_without_a_message_is_named_by_its_type() -> None:
    assert first_line(KeyboardInterrupt()) == last_line(KeyboardInterrupt(" \n")) == "KeyboardInterrupt"


class Fault(Exception):
    """Our own error."""


def raised(error: BaseException) -> BaseException:
    """Return what leaves the block in which a library raises `error`."""
    with pytest.raises(BaseException) as caught, raised_as(Fault, "Model m cannot be loaded", "Get another."):
        raise error
    return caught.value


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (KeyError("model_type"), "KeyError: 'model_type'"),
        (RuntimeError("size mismatch\n  for layer 3"), "RuntimeError: size mismatch for layer 3"),
        (NotImplementedError(), "NotImplementedError"),
        (MemoryError(), "MemoryError"),
        (ValueError("x" * 301), f"ValueError: {'x' * 300}..."),
        (ValueError("x" * 300), f"ValueError: {'x' * 300}"),
    ],
)
def test_any_error_of_a_library_becomes_one_line_of_ours(error: Exception, text: str) -> None:
    found = raised(error)
    assert type(found) is Fault
    assert str(found) == f"Model m cannot be loaded ({text}). Get another."
    assert found.__cause__ is error


def test_panic_of_a_rust_extension_is_converted_too() -> None:
    panic = type("PanicException", (BaseException,), {"__module__": "pyo3_runtime"})
    assert str(raised(panic("index out of bounds"))).startswith(
        "Model m cannot be loaded (PanicException: ind"
    )


def test_our_own_error_and_an_interrupt_pass_unchanged() -> None:
    for error in (Fault("already ours"), KeyboardInterrupt(), SystemExit(3)):
        assert raised(error) is error
