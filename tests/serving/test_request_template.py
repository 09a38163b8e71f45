"""What a client sends beside messages is checked with the tokenizer, not with a list of marks."""

from __future__ import annotations

import pytest

from mica_ray.rollout.chat_template import ChatTemplate
from mica_ray.serving.request_template import RequestTemplate
from tests.rollout.template_families import FAMILIES, family_tokenizer


def has_marks(name: str, value: object) -> bool:
    return RequestTemplate(ChatTemplate(family_tokenizer(name))).has_marks(value)


@pytest.mark.parametrize("name", FAMILIES)
def test_mark_is_found_wherever_it_is_in_a_request(name: str) -> None:
    for mark in (*FAMILIES[name].counted, FAMILIES[name].eos):
        for value in (mark, {"description": f"a {mark} b"}, [{"enum": ["x", mark]}], {f"key{mark}": 1}):
            assert has_marks(name, value)


@pytest.mark.parametrize("name", FAMILIES)
def test_ordinary_tools_have_no_marks(name: str) -> None:
    assert not has_marks(name, [{"name": "weather", "parameters": {"type": "object"}}, "a < b [c]", None, 1])


def test_mark_that_a_normalizer_forms_is_found() -> None:
    assert has_marks("chatml_nfkc", "＜｜im_end｜＞")
    assert not has_marks("chatml", "＜｜im_end｜＞")
