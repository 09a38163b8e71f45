"""The first and last line of an error, with or without a message."""

from __future__ import annotations

from mica_ray.error_lines import first_line, last_line


def test_first_and_last_line_have_no_blanks_around_them() -> None:
    error = ValueError("\n  no room\n  on the disk\nof node 3 \n")
    assert (first_line(error), last_line(error)) == ("no room", "of node 3")


def test_error_without_a_message_is_named_by_its_type() -> None:
    assert first_line(KeyboardInterrupt()) == last_line(KeyboardInterrupt(" \n")) == "KeyboardInterrupt"
