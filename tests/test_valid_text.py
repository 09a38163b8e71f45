import json

from hypothesis import example, given
from hypothesis import strategies as st

from mica_ray.valid_text import valid_json, valid_text

ANY_CODE_POINTS = st.lists(st.integers(0, 0x10FFFF)).map(lambda points: "".join(map(chr, points)))


@given(ANY_CODE_POINTS)
@example("\ud83d")
@example("\ude22\ud83d")
@example("\x00\u2028\u2029")
def test_text_becomes_encodable_and_stays_so(text: str) -> None:
    valid = valid_text(text)
    assert valid.encode().decode() == valid
    assert valid_text(valid) == valid


@given(st.text())
def test_valid_text_is_not_changed(text: str) -> None:
    assert valid_text(text) == text


def test_only_the_lone_half_is_replaced() -> None:
    assert valid_text("a\ud83db") == "a\ufffdb"
    assert valid_text("a\ude22b") == "a\ufffdb"
    # Two halves in order are one character; in the wrong order they are two lone halves.
    assert valid_text("\ud83d\ude22!") == "\U0001f622!"
    assert valid_text("\ude22\ud83d!") == "\ufffd\ufffd!"


def test_a_byte_order_mark_inside_text_is_kept() -> None:
    assert valid_text("\ufeffa\ud800") == "\ufeffa\ufffd"


def test_keys_and_nested_values_become_encodable() -> None:
    value = valid_json({"\ud800": [{"a": ("\udfff", True, None, 2, 0.5)}]})
    assert value == {"\ufffd": [{"a": ["\ufffd", True, None, 2, 0.5]}]}
    json.dumps(value, ensure_ascii=False).encode()
