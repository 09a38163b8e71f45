"""An error in one line, whatever it says."""

from __future__ import annotations

from mica_ray.error_lines import first_line, last_line


def test_first_and_last_line_are_told_without_blanks_around_them() -> None:
    error = ValueError("\n  no room\n  on the disk\nof node 3 \n")
    assert (first_line(error), last_line(error)) == ("no room", "of node 3")


def test_error_without_words_is_told_by_its_type() -> None:
    assert first_line(KeyboardInterrupt()) == last_line(KeyboardInterrupt(" \n")) == "KeyboardInterrupt"
