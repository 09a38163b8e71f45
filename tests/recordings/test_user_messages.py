"""The user's side of dialogues in every format, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mica_ray.recordings.recorded_dialogue import RecordingError
from mica_ray.recordings.user_messages import UserDialogue, read_user_messages
from tests.evaluation.recorded_files import run_case, write

ESCONV = {
    "dialog": [
        {"speaker": "seeker", "text": "Hi."},
        {"speaker": "seeker", "text": "I am sad."},
        {"speaker": "supporter", "text": "Why?", "strategy": "Question"},
        {"speaker": "seeker", "text": " "},
        {"speaker": "supporter", "text": "Take your time."},
        {"speaker": "seeker", "text": "My job."},
    ]
}


def messages(path: Path, **options: tuple[str, ...]) -> list[tuple[str, ...]]:
    return [dialogue.messages for dialogue in read_user_messages(path, **options).dialogues]


def test_message_ends_where_the_other_side_replies_and_blank_ones_are_left_out(tmp_path: Path) -> None:
    assert messages(write(tmp_path / "a.jsonl", [ESCONV])) == [("Hi.\nI am sad.", "My job.")]


@pytest.mark.parametrize(
    "record",
    [
        {"messages": [{"role": "system", "content": "x"}, {"role": "user", "content": "Hello"}]},
        {"history": [{"role": "user", "content": "Hello", "emotion-point": 40}], "emo_point": 40},
        {"conversations": [{"from": "Human", "value": "Hello"}, {"from": "gpt", "value": "Hi"}]},
        {"dialogue": [{"role": "assistant", "content": "Hi"}, {"speaker": " Seeker ", "text": "Hello"}]},
    ],
)
def test_every_list_of_messages_is_read(tmp_path: Path, record: dict[str, object]) -> None:
    found = read_user_messages(write(tmp_path / "chat.jsonl", [{"id": "x", **record}]))
    assert (found.name, found.dialogues) == ("chat", (UserDialogue("x", ("Hello",)),))


def test_published_run_and_own_dialogues_are_read_without_failed_ones(tmp_path: Path) -> None:
    said = [{"role": "actor", "content": "我累"}, {"role": "test_model", "content": "嗯"}]
    assert messages(write(tmp_path / "run.jsonl", [run_case(history=said)])) == [("我累",)]
    turn = {"user": "I am lost.", "reply": "I see.", "state": [-1, -1, -1], "delta": None}
    own = {"scenario": "s", "initial_state": [-1, -1, -1], "turns": [turn], "stop": "limit"}
    (tmp_path / "run-a").mkdir()
    write(tmp_path / "run-a" / "dialogues.jsonl", [own, own | {"stop": "failed"}])
    for path in (tmp_path / "run-a", tmp_path / "run-a" / "dialogues.jsonl"):
        found = read_user_messages(path)
        assert (found.name, found.num_left_out, found.num_messages) == ("run-a", 1, 1)
        assert found.dialogues[0].messages == ("I am lost.",)


def test_folder_is_read_file_by_file_in_the_order_of_names(tmp_path: Path) -> None:
    for name, text in (("b", "second"), ("a", "first")):
        write(tmp_path / f"{name}.jsonl", [{"messages": [{"role": "user", "content": text}]}])
    assert messages(tmp_path) == [("first",), ("second",)]


def test_own_name_of_the_users_side_can_be_added(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", [{"messages": [{"role": "Caller", "content": "Hello"}]}])
    with pytest.raises(RecordingError, match=r"speakers are: Caller\. Name the user's side with --speaker"):
        read_user_messages(path)
    assert messages(path, speakers=("caller",)) == [("Hello",)]


@pytest.mark.parametrize(
    ("lines", "problem"),
    [
        ('{"text": "x"}', "line 1: needs a list of messages in one of dialog, .* found text"),
        ('{"messages": ["x"]}', "line 1: field 'messages': entry 0 must be an object"),
        ('{"messages": [{"role": "user"}]}', "entry 0: needs a text in one of .* got 'user' and None"),
        ('{"messages": [{"content": "x"}]}', "entry 0: needs a text in one of .* got None and 'x'"),
        ('{"messages": [{"role": 3, "content": "x"}]}', "got 3 and 'x'"),
        ("", "no message of a user. The speakers are: nobody"),
        ("[1]\n", "must be a JSON object"),
    ],
)
def test_wrong_line_is_named(tmp_path: Path, lines: str, problem: str) -> None:
    (tmp_path / "a.jsonl").write_text(lines)
    if lines.startswith("{"):  # Not the cut-off last line of a run that still writes.
        (tmp_path / "a.jsonl").write_text(lines + "\n")
    with pytest.raises(RecordingError, match=problem):
        read_user_messages(tmp_path / "a.jsonl")


def test_missing_file_and_empty_folder_are_errors(tmp_path: Path) -> None:
    with pytest.raises(RecordingError, match="cannot be read"):
        read_user_messages(tmp_path / "none.jsonl")
    with pytest.raises(RecordingError, match=r"contains no \*\.jsonl"):
        read_user_messages(tmp_path)


def test_real_seekers_and_simulated_users_are_read(benchmark_data: Path) -> None:
    people = read_user_messages(benchmark_data / "esconv" / "test.jsonl")
    assert (len(people.dialogues), people.num_left_out) == (195, 0)
    first = json.loads((benchmark_data / "esconv" / "test.jsonl").read_text().splitlines()[0])["dialog"]
    seekers = [entry["text"] for entry in first if entry["speaker"] == "seeker"]
    assert list(people.dialogues[0].messages) == seekers
    assert len(read_user_messages(benchmark_data / "empa" / "recorded_runs" / "gpt-4o.jsonl").dialogues) == 30
    assert len(read_user_messages(benchmark_data / "sage" / "dialogues").dialogues) == 200
