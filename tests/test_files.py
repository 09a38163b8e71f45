"""Files that survive a kill: every step exactly once, and JSON lines read back with their places."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import pandas
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mica_ray.files import (
    JsonFileError,
    StepLog,
    append_line,
    json_line,
    keep_settings,
    read_json_lines,
    read_json_object,
    read_text,
    write_json,
    write_whole,
)
from mica_ray.training.scenario_order import ScenarioOrder
from mica_ray.types import Scenario
from mica_ray.valid_text import valid_json, valid_text


def scenario(name: str) -> Scenario:
    return Scenario(
        id=name, domain="test", category="work", dominant_axis="A", persona="Somebody.", opening="Hello.",
        initial_state=(-3.0, -6.0, -3.0), stages=(), split="train",
    )  # fmt: skip


def steps_in(path: Path) -> list[int]:
    return pandas.read_json(path, lines=True)["step"].tolist()


def test_lines_behind_the_checkpoint_are_dropped_and_written_again(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    log = StepLog(path)
    for step in range(5):
        log.append(step, [{"value": step}, {"value": -step}])
    with path.open("a") as file:
        file.write('{"step": 5, "val')  # as a kill in the middle of a write leaves it
    resumed = StepLog(path, first_step=3)
    assert steps_in(path) == [0, 0, 1, 1, 2, 2]
    for step in range(3, 6):
        resumed.append(step, [{"value": step}])
    assert steps_in(path) == [0, 0, 1, 1, 2, 2, 3, 4, 5]


def test_rows_are_read_back_with_their_step(tmp_path: Path) -> None:
    log = StepLog(tmp_path / "a")
    assert list(log.rows()) == []
    log.append(2, [{"loss": 0.5}, {"loss": None}])
    assert list(log.rows()) == [{"step": 2, "loss": 0.5}, {"step": 2, "loss": None}]


def test_new_run_in_an_old_folder_starts_with_an_empty_file(tmp_path: Path) -> None:
    StepLog(tmp_path / "a").append(0, [{}])
    StepLog(tmp_path / "a")
    assert (tmp_path / "a").read_text() == ""


def test_number_without_a_json_form_is_null_at_any_depth(tmp_path: Path) -> None:
    path = tmp_path / "a"
    StepLog(path).append(0, [{"loss": math.nan, "turns": [{"return": math.inf, "reward": 0.5}]}])

    def refuse(constant: str) -> float:
        raise ValueError(f"{constant} is not JSON")

    assert json.loads(path.read_text(), parse_constant=refuse) == {
        "step": 0, "loss": None, "turns": [{"return": None, "reward": 0.5}],
    }  # fmt: skip


def test_epoch_holds_every_scenario_once_in_an_order_of_its_own() -> None:
    order = ScenarioOrder(tuple(scenario(str(number)) for number in range(12)), seed=1, per_step=4)
    epochs = [
        [item.id for step in range(3 * epoch, 3 * epoch + 3) for item in order(step)] for epoch in range(2)
    ]
    assert sorted(epochs[0]) == sorted(epochs[1]) == sorted(str(number) for number in range(12))
    assert epochs[0] != epochs[1]


def test_step_of_the_order_needs_no_earlier_step() -> None:
    items = tuple(scenario(str(number)) for number in range(7))
    order = ScenarioOrder(items, seed=3, per_step=3)
    straight = [order(step) for step in range(6)]
    assert ScenarioOrder(items, seed=3, per_step=3)(5) == straight[5]
    assert all(len({item.id for item in step}) == 3 for step in straight)
    assert order.digest != ScenarioOrder(items, seed=4, per_step=3).digest


def test_json_lines_end_at_newlines_only(tmp_path: Path) -> None:
    path = tmp_path / "lines.jsonl"
    path.write_bytes('\ufeff{"text": "one\u2028two"}\r\n\n{"text": "three"}'.encode())
    assert [(line.number, line.fields["text"]) for line in read_json_lines(path)] == [
        (1, "one\u2028two"),
        (3, "three"),
    ]


def test_a_growing_file_may_end_in_half_a_character_and_another_may_not(tmp_path: Path) -> None:
    path = tmp_path / "lines.jsonl"
    path.write_bytes(b'{"a": 1}\n{"b": "' + "é".encode()[:1])
    assert [line.fields for line in read_json_lines(path, is_growing=True)] == [{"a": 1}]
    with pytest.raises(JsonFileError, match=r"lines\.jsonl, line 2: not valid JSON"):
        read_json_lines(path)


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"[1]\n", "line 1: must be a JSON object, got list"),
        (b'{"a": 1}\n\xff{}\n', "line 2: not valid JSON"),
    ],
)
def test_a_wrong_line_is_named_even_in_a_growing_file(tmp_path: Path, content: bytes, problem: str) -> None:
    path = tmp_path / "lines.jsonl"
    path.write_bytes(content)
    with pytest.raises(JsonFileError, match=problem):
        read_json_lines(path, is_growing=True)


def test_only_a_growing_file_may_be_missing(tmp_path: Path) -> None:
    assert read_json_lines(tmp_path / "none.jsonl", is_growing=True) == ()
    with pytest.raises(JsonFileError, match=r"none\.jsonl cannot be read"):
        read_json_lines(tmp_path / "none.jsonl")


def test_a_json_object_is_read_and_anything_else_refused(tmp_path: Path) -> None:
    path = tmp_path / "one.json"
    path.write_text('{"a": [1, 2]}')
    assert read_json_object(path) == {"a": [1, 2]}
    path.write_text("[1]")
    with pytest.raises(JsonFileError, match="must contain a JSON object, got list"):
        read_json_object(path)


ANY_CODE_POINTS = st.lists(st.integers(0, 0x10FFFF), max_size=20).map(
    lambda points: "".join(map(chr, points))
)
HOSTILE = (
    "\ud83d",
    "\ude22\ud83d",
    "\x00",
    "a\u2028b\u2029c\x85d",
    "\r\n\x0b\x0c\x1c\x1d\x1e",
    "\ufeff",
    "\ufffe\uffff",
)


def with_hostile_examples(test: Callable[..., None]) -> Callable[..., None]:
    for text in HOSTILE:
        test = example(text)(test)
    return test


@with_hostile_examples
@given(ANY_CODE_POINTS)
def test_what_is_written_is_read_back_as_valid_text(text: str) -> None:
    record = {"text": text, "list": [text, {text: text}]}
    expected = valid_json(record)
    line = json_line(record)
    # Whatever another program takes for the end of a line: it is one line.
    assert len(line.decode().splitlines()) == len(line.split(b"\n")) == 1
    with TemporaryDirectory() as name:
        folder = Path(name)
        append_line(folder / "lines", line)
        StepLog(folder / "steps").append(0, [record])
        write_json(folder / "object", record)
        write_whole(folder / "text", text)
        assert read_json_lines(folder / "lines")[0].fields == expected
        assert next(StepLog(folder / "steps", first_step=1).rows()) == {"step": 0, **expected}
        assert read_json_object(folder / "object") == expected
        assert read_text(folder / "text") == valid_text(text).removeprefix("\ufeff")


@with_hostile_examples
@given(ANY_CODE_POINTS)
def test_escaped_halves_in_a_file_are_replaced(text: str) -> None:
    with TemporaryDirectory() as name:
        path = Path(name) / "a"
        path.write_text(json.dumps({text: text}))  # ASCII: a half is spelled as an escape
        (line,) = read_json_lines(path)
        assert line.fields == read_json_object(path) == {valid_text(text): valid_text(text)}


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b'{"a": "\xb5"}', "not UTF-8"),  # Latin-1
        ('{"a": "难过"}'.encode("gb18030"), "not UTF-8"),
        ('{"a": "x"}'.encode("utf-16"), r"not UTF-8 \(byte 0\)"),
        (b'{"a": "x"}\x00', "JSON"),
        (b"[" * 100_000, "JSON"),
        (b"\xef\xbb\xbf", "JSON"),
        (b"1" * 5000, "JSON"),
    ],
)
def test_file_that_is_not_utf8_json_is_one_clear_error(tmp_path: Path, content: bytes, problem: str) -> None:
    path = tmp_path / "a"
    path.write_bytes(content + b"\n")
    for read in (read_json_object, read_json_lines):
        with pytest.raises(JsonFileError, match=problem):
            read(path)


def test_halves_written_as_three_bytes_are_replaced(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes('{"a": "b\ud83d"}'.encode("utf-8", "surrogatepass"))
    assert read_json_object(tmp_path / "a") == {"a": "b\ufffd"}


def test_path_that_cannot_exist_is_one_clear_error() -> None:
    for name in ("no/\x00/such", "no\udcff"):
        with pytest.raises(JsonFileError, match="cannot be read"):
            read_json_object(Path(name))


@pytest.mark.parametrize(
    "rest", [b'{"step": 2, "a": "\xe9', b"{", b"\x00\x00\x00", '{"a": "难'.encode()[:-1]]
)
def test_cut_line_of_a_live_file_is_ignored_with_a_notice(
    tmp_path: Path, rest: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "a"
    path.write_bytes(b'{"step": 1}\n' + rest)
    assert [line.fields for line in read_json_lines(path, is_growing=True)] == [{"step": 1}]
    assert "line 2" in caplog.text
    with pytest.raises(JsonFileError, match="line 2"):
        read_json_lines(path)


@pytest.mark.parametrize("line", [b"not json", b"[]", b"{}", b'{"step": "1"}', b"\xff"])
def test_wrong_line_of_a_step_log_is_named_on_resume(tmp_path: Path, line: bytes) -> None:
    path = tmp_path / "a"
    path.write_bytes(b'{"step": 0}\n' + line + b"\n")
    with pytest.raises(JsonFileError, match="line 2"):
        StepLog(path, first_step=1)
    assert path.read_bytes().startswith(b'{"step": 0}\n')


def test_settings_are_kept_once_and_compared_afterwards(tmp_path: Path) -> None:
    path = tmp_path / "settings.json"
    assert keep_settings(path, {"model": "m", "stop": ("a",), "seed": 0}) is None
    # A tuple and the list that JSON makes of it are equal.
    assert keep_settings(path, {"model": "m", "stop": ["a"], "seed": 0}) is None
    assert keep_settings(path, {"model": "n", "stop": ["a"], "seed": 1}) == ("model", "m", "n")
    assert keep_settings(path, {"model": "m", "stop": ["a"]}) == ("seed", 0, None)
    assert keep_settings(path, {"model": "m", "stop": ["a"], "seed": 0, "top_p": 0.5}) == ("top_p", None, 0.5)
