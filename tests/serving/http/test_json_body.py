"""Bodies are read as valid Unicode, however they encode half of a surrogate pair."""

from __future__ import annotations

import json

import pytest

from mica_ray.serving.http.json_body import read_object


@pytest.mark.parametrize(
    "content",
    [
        rb'{"text": "sad \ud83d"}',
        rb'{"text": "sad \uD83D"}',
        b'{"text": "sad \xed\xa0\xbd"}',
        json.dumps({"text": "sad \ud83d"}).encode("utf-16"),
        json.dumps({"text": "sad \ud83d"}).encode("utf-16-le"),
        json.dumps({"text": "sad \ud83d"}).encode("utf-32"),
        '{"text": "sad \ud83d"}'.encode("utf-16", "surrogatepass"),
    ],
)
def test_half_of_a_pair_is_replaced_in_every_encoding(content: bytes) -> None:
    text = read_object(content)["text"]
    assert isinstance(text, str)
    assert text.startswith("sad ") and "\ufffd" in text
    text.encode()


@pytest.mark.parametrize(
    "content",
    [b'{"text": "sad \xf0\x9f\x98\xa2"}', rb'{"text": "sad \ud83d\ude22"}', rb'{"\u0074ext": "sad"}'],
)
def test_valid_text_is_kept(content: bytes) -> None:
    assert read_object(content)["text"] in ("sad 😢", "sad")
