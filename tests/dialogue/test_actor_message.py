"""A message is clean, short and not a repetition."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mica_ray.dialogue.actor_message import clean_message, message_problem, num_words, repeated_fraction
from mica_ray.dialogue.role_messages import SpokenTurn

DIALOGUE: list[SpokenTurn] = [
    {"user": "我今天又一个人吃的饭。你说是不是很没意思？", "reply": "一个人吃饭，最难受的是什么？"},
    {"user": "就是想找人说说话。", "reply": "我在听，你慢慢说，不急。"},
]


@pytest.mark.parametrize(
    ("written", "message"),
    [
        ("  I am tired. ", "I am tired."),
        ('"I am tired."', "I am tired."),
        ("“我累了。”", "我累了。"),
        ("「我累了。」", "我累了。"),
        ("用户：“我累了。”", "我累了。"),
        ("User: I am tired.", "I am tired."),
        ("<think>她很难过。</think>\n用户: 我累了。", "我累了。"),
        ("```\n我累了。\n```", "我累了。"),
        ("Me: 'User: tired.'", "tired."),
        # Nothing of these is form.
        ('"No," she said, "not now."', '"No," she said, "not now."'),
        ("我说：算了。", "我说：算了。"),
        ("我觉得吧：都一样。", "我觉得吧：都一样。"),
        ("用户体验很差。", "用户体验很差。"),
    ],
)
def test_form_is_stripped_and_words_are_kept(written: str, message: str) -> None:
    assert clean_message(written) == message


@settings(deadline=None, max_examples=30)
@given(st.text(max_size=30))
def test_cleaning_twice_changes_nothing(text: str) -> None:
    assert clean_message(clean_message(text)) == clean_message(text)


@pytest.mark.parametrize(
    ("text", "words"), [("我累了。", 3), ("I'm so tired, ok?", 4), ("我用 iPhone 打字", 5), ("", 0)]
)
def test_chinese_characters_and_english_words_count_one_each(text: str, words: int) -> None:
    assert num_words(text) == words


@pytest.mark.parametrize(
    ("message", "problem"),
    [
        ("", "says nothing"),
        ('{"message": "我累了"}', "JSON"),
        ("就是想找人说说话。", "repeats what the person said before"),
        ("就是想找人说说话！", "repeats what the person said before"),
        ("嗯。我今天又一个人吃的饭。", "repeats what the person said before"),
        ("我在听，你慢慢说，不急。", "repeats the helper's words"),
        ("累" * 101, "has 101 words or characters, and 100 are the most"),
    ],
)
def test_what_a_person_would_not_say_next_is_named(message: str, problem: str) -> None:
    found = message_problem(message, DIALOGUE, fragment=None)
    assert found is not None and problem in str(found)


@pytest.mark.parametrize(
    "message",
    [
        "吃完也没人说话，碗都懒得洗。",
        "累" * 100,
        # 8 of its 25 letters were said before.
        "就是想找人说说话。可翻遍通讯录，又觉得谁都不合适打过去。",
    ],
)
def test_new_message_is_accepted(message: str) -> None:
    assert message_problem(message, DIALOGUE, fragment=None) is None


def test_line_taken_from_the_instructions_is_named() -> None:
    asked = ["用一句简短的话说出此刻的感受。不打招呼。"]
    found = message_problem("用一句简短的话说出此刻的感受。", DIALOGUE, fragment=None, instructions=asked)
    assert found is not None
    assert (found.english, found.chinese) == ("it repeats the instructions", "照抄了给你的要求")


def test_new_fragment_makes_room_for_twice_its_words() -> None:
    # 100 + 2 * 30.
    assert message_problem("累" * 160, DIALOGUE, fragment="事" * 30) is None
    assert message_problem("累" * 161, DIALOGUE, fragment="事" * 30) is not None


def test_short_words_may_come_again() -> None:
    earlier = ["嗯。", "Yes."]
    assert repeated_fraction("嗯。", earlier) == 0
    assert repeated_fraction("Yes.", earlier) == 0


def test_repeated_fraction_is_counted_in_letters() -> None:
    # "abcdef" of "abcdefgh": 6 of 8 letters.
    assert repeated_fraction("Abc def! Gh.", ["ABCDEF."]) == 0.75
