"""A language is recognized by its primary subtag, whatever follows it and however it is written."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mica_ray.domains.emotional_support import EMOTIONAL_SUPPORT
from mica_ray.types import primary_language

CHINESE = (
    "zh", "ZH", "zh-CN", "zh_CN", "zh-Hans", "zh_Hant_TW", "zh-hans-cn", "ZH-cn.UTF-8", " zh ", "zho", "chi",
    "cmn", "cmn-Hans", "Chinese", "chinese (simplified)", "Mandarin", "中文", "中文（简体）", "汉语",
    "简体中文", "ｚｈ", "zh-x-own", "zh–CN", "zh‐Hans", "Simplified Chinese", "traditional_chinese", "繁體",
    "CHS",
)  # fmt: skip
ENGLISH = (
    "en", "EN", "en-US", "en_GB.UTF-8", "en@latin", "eng", "English", "英语", "english (US)",
    "American English", "en—US",
)  # fmt: skip
OTHERS = {
    "fr": "fr", "FR-ca": "fr", "de_AT": "de", "zha": "zha", "yue": "yue", "enm": "enm", "": "", "-": "",
    "us": "us", "Simplified": "simplified",
}  # fmt: skip


@pytest.mark.parametrize(
    ("tag", "expected"),
    [*((tag, "zh") for tag in CHINESE), *((tag, "en") for tag in ENGLISH), *OTHERS.items()],
)
def test_tag_becomes_its_primary_subtag(tag: str, expected: str) -> None:
    assert primary_language(tag) == expected


@given(st.text())
def test_primary_subtag_is_its_own_primary_subtag(tag: str) -> None:
    assert primary_language(primary_language(tag)) == primary_language(tag)


@pytest.mark.parametrize("tag", CHINESE)
def test_scenario_and_its_prompts_agree_about_the_language(tag: str) -> None:
    domain = EMOTIONAL_SUPPORT
    scenario = replace(domain.scenarios[0], language=tag)
    assert scenario.language == "zh"
    assert domain.prompts(scenario.language) == domain.prompts(tag) == domain.prompts("zh")
    assert domain.prompts("zh") != domain.prompts("en")
