"""Shared text: the overlap done by hand, and sketches that estimate it."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mica_ray.domains.empa.overlap import nearest, shared_fraction, shingles, sketch


def test_overlap_is_the_share_of_the_smaller_text() -> None:
    # "abcdefg" has abcde, bcdef, cdefg; "abcdefhij" has five, of which abcde and bcdef are shared: 2 of 3.
    (near,) = nearest({"one": "Abc, d-e f g"}, {"two": "abcdefhij", "three": "zzzzzzzz"})
    assert (near.name, near.reference) == ("one", "two")
    assert near.shared_fraction == pytest.approx(2 / 3)
    assert near.is_duplicate


def test_texts_that_share_nothing_are_not_near_and_none_is_near_itself() -> None:
    assert nearest({"one": "abcdefg"}, {"two": "hijklmn"}) == ()
    assert nearest({"one": "abcdefg"}, {"one": "abcdefg"}) == ()


def test_nearest_pairs_come_first() -> None:
    near = nearest({"far": "abcde12345", "same": "abcdefgh"}, {"text": "abcdefgh"})
    assert [item.name for item in near] == ["same", "far"]


@given(st.text(min_size=5, max_size=40), st.text(max_size=20))
@settings(deadline=None, max_examples=30)
def test_text_stands_whole_in_its_continuation(text: str, more: str) -> None:
    letters = "".join(character for character in text if character.isalnum()).lower()
    if len(letters) >= 5:
        assert shared_fraction(shingles(text), shingles(letters + more)) == 1.0


def test_sketch_estimates_the_shared_part() -> None:
    # Half of a text of 2000 letters; the estimate of 64 hashes has a standard error of 1/16 at most.
    letters = "".join(random.Random(0).choices("abcdefghijklmnopqrstuvwxyz", k=2000))
    estimate = shared_fraction(sketch(shingles(letters), 64), shingles(letters[:1000]))
    assert estimate == pytest.approx(0.5, abs=3 / 16)
