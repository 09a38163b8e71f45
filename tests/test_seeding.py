"""Seeds derived from names: fixed for ever, within 31 bits, and different for different parts."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from mica_ray.seeding import derive_seed

parts = st.lists(st.one_of(st.integers(), st.text()), max_size=4)


def test_seeds_never_change() -> None:
    # Stored runs are resumed and compared under these numbers: 31 bits of BLAKE2b of "int:0\x1fstr:rollout".
    assert derive_seed(0, "rollout") == 1428364414
    assert derive_seed(0, "rollout", 3, 1) == 868204918


def test_number_and_its_text_give_different_seeds() -> None:
    assert derive_seed(0, 3) != derive_seed(0, "3")


@settings(deadline=None, max_examples=50)
@given(parts)
def test_seed_has_31_bits(names: list[int | str]) -> None:
    assert 0 <= derive_seed(*names) < 2**31
