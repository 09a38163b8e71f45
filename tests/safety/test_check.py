"""What the care check finds, what it ignores, and which help line opens the answer."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, generate_latest

from mica_ray.safety.check import HelpLine, HelpLines
from mica_ray.safety.counts import CountedCare
from mica_ray.safety.measure import measure, plain_recall, read_messages
from mica_ray.safety.rules import OWN_RULES, CareRules, RuleCare
from mica_ray.safety.text import Spelling, sentences

RULES = CareRules.read()
CHECK = RuleCare(RULES, HelpLines())


@pytest.mark.parametrize("half", ["tuning", "held_out"])
def test_plainly_worded_danger_is_found(half: str) -> None:
    shares = measure(CHECK, [message for message in read_messages() if message.half == half])
    assert plain_recall(shares).estimate >= 0.95
    for share in shares:
        if share.kind is not None and not share.hard:
            assert share.found / share.total >= 0.9, share
            assert share.right_kind / share.total >= 0.8, share


@pytest.mark.parametrize("half", ["tuning", "held_out"])
def test_text_that_only_sounds_like_danger_raises_few_alarms(half: str) -> None:
    shares = measure(CHECK, [message for message in read_messages() if message.half == half])
    harmless = [share for share in shares if share.kind is None]
    assert sum(share.found for share in harmless) / sum(share.total for share in harmless) <= 0.1


def test_the_message_set_is_large_and_has_every_label() -> None:
    messages = read_messages()
    assert len(messages) >= 150
    assert len({message.text for message in messages}) == len(messages)
    # 4 kinds and no danger, plain and hard, in both halves and both languages.
    assert len({(m.kind, m.hard, m.half, m.locale) for m in messages}) == 5 * 2 * 2 * 2


@pytest.mark.parametrize(
    "text",
    [
        "I want to ki\u200bll my\u2060self",  # zero width space, word joiner
        "Ｉ ｗａｎｔ ｔｏ ｄｉｅ",
        "i w\u0336a\u0336n\u0336t\u0336 to die",  # struck through with combining marks
        "I WANT TO K.I.L.L  M.Y.S.E.L.F",
        "i want 2 d1e, i mean it, i want to d1e",
        "𝐈 𝐰𝐚𝐧𝐭 𝐭𝐨 𝐝𝐢𝐞",
        "I can\u2019t do it. i dont want too live anymore",
        "我想自\u200b杀",
        "我想自*杀",
        "我想自殺",
    ],
)
def test_disguises_are_seen_through(text: str) -> None:
    assert RULES.find(text) == "self_harm"


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("This deadline is killing me", None),
        ("This deadline is killing me. I want to kill myself.", "self_harm"),
        ("I'm not suicidal, just tired", None),
        ("I don't want to kill myself but I might", "self_harm"),
        ("I don't want to live anymore", "self_harm"),
        ("I don't want to live with my parents anymore", None),
        ("My grandfather killed himself years ago", None),
        ("My brother says he will kill himself", "self_harm"),
        ("He had a heart attack two years ago", None),
        ("He is having a heart attack", "medical"),
    ],
)
def test_a_few_more_words_can_change_the_meaning(text: str, kind: str | None) -> None:
    assert RULES.find(text) == kind


def test_danger_is_found_inside_a_long_message() -> None:
    filler = "The week was long and the train was late again. " * 200
    assert RULES.find(filler) is None
    assert RULES.find(f"{filler}I want to kill myself. {filler}") == "self_harm"


@pytest.mark.parametrize(
    "piece", ["i want to ", "k i l l ", "my ", "a", "not not ", "想要", "he he he ", "took all "]
)
def test_no_text_makes_the_check_slow(piece: str) -> None:
    text = (piece * 32_768)[:32_768]  # the longest accepted message
    started = time.process_time()
    RULES.find(text)
    assert time.process_time() - started < 20  # a pattern that backtracks without bound takes hours


@settings(deadline=None, max_examples=30)
@given(st.text(max_size=200))
def test_any_text_can_be_read(text: str) -> None:
    RULES.find(text)
    assert all(sentence == sentence.strip() for sentence in sentences(text, Spelling()))


def test_the_help_line_is_that_of_the_kind_in_the_nearest_locale() -> None:
    lines = HelpLines(
        (
            HelpLine("en", "English"),
            HelpLine("en-GB", "British"),
            HelpLine("en-GB", "British, medical", "medical"),
            HelpLine("zh", "Chinese"),
        )
    )
    cases = [
        ("en-GB", "medical"),
        ("en_gb", "abuse"),
        ("en-US", "abuse"),
        ("zh-Hans-CN", "abuse"),
        ("fr", "abuse"),
    ]
    assert [lines.text(locale, kind) for locale, kind in cases] == [  # type: ignore[arg-type]
        "British, medical", "British", "English", "Chinese", "English",
    ]  # fmt: skip


def test_the_default_help_lines_name_no_number() -> None:
    for locale in ("en", "zh"):
        assert not any(character.isdigit() for character in HelpLines().text(locale, "self_harm"))


def test_help_lines_are_read_from_a_file_and_the_rest_keeps_its_default(tmp_path: Path) -> None:
    path = tmp_path / "help.json"
    path.write_text(json.dumps([{"locale": "de", "text": "Bitte rufen Sie an."}]))
    lines = HelpLines.read(path)
    assert lines.text("de-AT", "violence") == "Bitte rufen Sie an."
    assert lines.text("en", "violence") == HelpLines().text("en", "violence")
    path.write_text('[{"locale": "de"}]')
    with pytest.raises(ValueError, match=r"help\.json cannot be read as help lines"):
        HelpLines.read(path)


def test_findings_are_counted_by_kind_and_without_the_text() -> None:
    registry = CollectorRegistry()
    check = CountedCare(CHECK, registry)
    for text in ("I want to kill myself", "I want to die", "He is not breathing", "Good morning"):
        check.check(text, "en")
    assert registry.get_sample_value("mica_care_findings_total", {"kind": "self_harm"}) == 2
    assert registry.get_sample_value("mica_care_findings_total", {"kind": "medical"}) == 1
    assert registry.get_sample_value("mica_care_findings_total", {"kind": "abuse"}) == 0
    assert b"breathing" not in generate_latest(registry)


def test_a_wrong_rule_is_named(tmp_path: Path) -> None:
    path = tmp_path / "rules.toml"
    path.write_text(OWN_RULES.read_text(encoding="utf-8").replace('kind = "abuse"', 'kind = "rude"'))
    with pytest.raises(
        ValueError, match=r"rules\.toml is not a file of care rules .*kind must be one of .* got 'rude'"
    ):
        CareRules.read(path)
    with pytest.raises(ValueError, match=r"none\.toml cannot be read"):
        CareRules.read(tmp_path / "none.toml")


def test_a_word_that_contains_itself_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "rules.toml"
    rules = OWN_RULES.read_text(encoding="utf-8")
    place = rules.index("\n[words]\n") + len("\n[words]")
    words = rules[:place] + "\nself_naming = 'x|<self_naming>'" + rules[place:]
    path.write_text(words.replace("patterns = [", "patterns = ['<self_naming>',", 1), encoding="utf-8")
    with pytest.raises(ValueError, match="words self_naming contain themselves"):
        CareRules.read(path)


def test_a_wrong_label_is_named_by_its_line(tmp_path: Path) -> None:
    path = tmp_path / "messages.jsonl"
    good = {"text": "hello", "locale": "en", "kind": None, "hard": False}
    path.write_text(json.dumps(good) + "\n" + json.dumps({**good, "kind": "rude"}) + "\n")
    with pytest.raises(ValueError, match=r"messages\.jsonl, line 2 is not a labelled message \(kind must be"):
        read_messages(path)
