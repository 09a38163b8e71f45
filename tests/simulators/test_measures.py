"""What is counted in a message, with numbers counted by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given

from mica_ray.simulators.measures import MEASURES, WINDOW, measured
from mica_ray.simulators.words import (
    Language,
    content_words,
    is_first_person,
    language_of,
    resists,
    sentences_of,
    tokens_of,
)
from tests.hostile_texts import ALL_AT_ONCE, ANY_TEXT


def column(key: str, *messages: str, language: Language = "en") -> list[float]:
    number = [measure.key for measure in MEASURES].index(key)
    return measured(messages, language)[:, number].tolist()


def test_words_are_counted_and_in_chinese_characters() -> None:
    assert tokens_of("I’m so tired -- it's 3 am!") == ("i'm", "so", "tired", "it's", "am")
    assert tokens_of("我好累。OK吗") == ("我", "好", "累", "ok", "吗")
    assert column("length", "I am so tired.", "Yes") == [4, 1]
    assert column("length", "我好累，真的。", language="zh") == [5]


def test_sentences_without_a_word_do_not_count() -> None:
    assert sentences_of("No... I am fine!? ??") == ("No", " I am fine")
    assert sentences_of("我累。你呢？") == ("我累", "你呢")


@pytest.mark.parametrize(
    ("texts", "language"),
    [
        (["I am so tired of this job and I do not know what to do."], "en"),
        (["我真的好累，OK 就这样吧"], "zh"),
        (["Je suis fatigué de mon travail et je ne sais pas quoi faire."], None),
        (["..."], None),
        ([], None),
        # Two Chinese characters of four tokens are half; of five they are less.
        (["我 累 xx yy"], "zh"),
        (["我 累 xx yy zz"], None),
    ],
)
def test_language_is_recognized(texts: list[str], language: Language | None) -> None:
    assert language_of(texts) == language


def test_disclosure_is_first_person_sentences_and_words_not_used_before() -> None:
    # One of two sentences. The second message has none of one.
    assert column("first_person", "My boss yelled. It was loud.", "Everyone heard.") == [0.5, 0.0]
    assert column("first_person", "我被骂了。他走了。", language="zh") == [0.5]
    # boss, yelled, loud; then only `quit` is new.
    assert column("new_content", "My boss yelled. It was loud.", "The boss yelled, so quit.") == [3, 1]
    assert column("new_content", "我很累", "累又难", language="zh") == [1, 1]
    assert not is_first_person("Mining is hard", "en") and is_first_person("That is mine", "en")
    assert content_words(("the", "exam"), "en") == {"exam"}


@pytest.mark.parametrize(
    ("sentence", "language", "found"),
    [
        ("That won't help", "en", True),
        ("I dont know", "en", True),
        ("Yes, but it hurts", "en", True),
        ("No", "en", True),
        ("I know a notable knot", "en", False),
        ("Help me", "en", False),
        ("我不想说", "zh", True),
        ("但是他走了", "zh", True),
        ("算了吧", "zh", True),
        ("别人都好", "zh", False),
        ("不错", "zh", False),
        ("我很累", "zh", False),
    ],
)
def test_resistance_is_a_word_of_negation_refusal_or_contrast(
    sentence: str, language: Language, found: bool
) -> None:
    assert resists(sentence, language) is found


def test_resistance_is_a_share_of_sentences() -> None:
    assert column("resistance", "I tried. It did not help. But thanks. Bye.") == [0.5]


def test_repetition_is_the_share_of_ngrams_said_before() -> None:
    # Second message: "i am so", "am so sad" of which the first was said. The third has no three words.
    values = column("repetition", "I am so tired", "I am so sad", "So sad", "I am so sad")
    assert np.isnan(values[0]) and np.isnan(values[2])
    assert (values[1], values[3]) == (0.5, 1.0)
    # Four characters: 我真的累 was said, 真的累了 was not.
    assert column("repetition", "我真的累", "我真的累了", language="zh")[1] == 0.5


def test_ngram_within_one_message_does_not_repeat_an_earlier_one() -> None:
    assert column("repetition", "Hello", "so sad so sad so sad")[1] == 0.0


def test_moving_ratio_starts_with_a_whole_window() -> None:
    names = [f"w{chr(97 + index // 26)}{chr(97 + index % 26)}" for index in range(WINDOW)]
    almost, last = " ".join(names[:-1]), names[-1]
    values = column("diversity", almost, last, names[1], last)
    assert np.isnan(values[0])
    # 50 different words; then w1 follows w1..w49 without w0: 49 of 50; then w49 again: w2..w49, w1, w49.
    assert values[1:] == [1.0, 0.98, 0.98]


def test_moving_ratio_is_the_mean_over_windows_of_the_message() -> None:
    # 51 equal words: two windows with one word of 50 each.
    assert column("diversity", " ".join(["so"] * (WINDOW + 1))) == [1 / WINDOW]


def test_script_and_control_marks_are_talk_of_a_model() -> None:
    said = ("User: I am sad.", "I am sad.", "As an AI language model, I cannot feel.")
    assert column("model_talk", *said) == [1, 0, 1]


@given(first=ANY_TEXT, second=ANY_TEXT)
def test_any_text_is_measured(first: str, second: str) -> None:
    for language in ("en", "zh"):
        rows = measured([first, second, ALL_AT_ONCE], language)
        shares = rows[:, [number for number, one in enumerate(MEASURES) if one.unit == "share"]]
        assert rows.shape == (3, len(MEASURES))
        assert ((shares >= 0) & (shares <= 1) | np.isnan(shares)).all()
