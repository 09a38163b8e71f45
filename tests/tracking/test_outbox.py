"""Entries reach their receiver once and in order, however often it or the sender stops."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path

from mica_ray.tracking.outbox import DeliveryError, Entry, Outbox, RefusedError


class Receiver:
    """Accepts at most two entries at once; unreachable at first, and refuses one entry."""

    def __init__(self, *, away: int = 0, refused: object = None) -> None:
        self.taken: list[object] = []
        self.calls = 0
        self._away, self._refused = away, refused

    def __call__(self, entries: Sequence[Entry]) -> int:
        self.calls += 1
        if self.calls <= self._away:
            raise DeliveryError("nobody there")
        if entries[0]["name"] == self._refused:
            raise RefusedError("not this one")
        part = [entry["name"] for entry in entries[:2] if entry["name"] != self._refused]
        self.taken += part
        return len(part)


def put(outbox: Outbox, *names: str) -> None:
    for step, name in enumerate(names):
        outbox.put(step, {"name": name})


def delivered(path: Path, receiver: Receiver) -> int:
    """Open an outbox, deliver its entries, return the number left."""
    outbox = Outbox(path)
    outbox.start(receiver)
    return outbox.close(30.0)


def test_entries_arrive_in_order_and_once(tmp_path: Path) -> None:
    receiver, outbox = Receiver(), Outbox(tmp_path / "box.jsonl")
    outbox.start(receiver)
    put(outbox, *"abcde")
    assert outbox.close(30.0) == 0
    assert receiver.taken == list("abcde")
    assert delivered(tmp_path / "box.jsonl", receiver) == 0
    assert receiver.taken == list("abcde")


def test_receiver_that_comes_back_misses_nothing(tmp_path: Path) -> None:
    receiver, outbox = Receiver(away=2), Outbox(tmp_path / "box.jsonl")
    outbox.start(receiver)
    put(outbox, *"abc")
    assert outbox.close(30.0) == 0
    assert receiver.taken == list("abc")


def test_what_is_left_is_delivered_by_the_next_process(tmp_path: Path) -> None:
    path = tmp_path / "box.jsonl"
    first = Outbox(path)
    first.start(Receiver(away=1_000_000))
    put(first, "a", "b")
    assert first.close(0.2) == 2
    second = Outbox(path)
    put(second, "c")
    assert [entry["name"] for entry in second.entries()] == ["a", "b", "c"]
    receiver = Receiver()
    assert delivered(path, receiver) == 0
    assert receiver.taken == ["a", "b", "c"]


def test_kill_between_delivery_and_mark_repeats_the_same_entry(tmp_path: Path) -> None:
    path = tmp_path / "box.jsonl"
    put(Outbox(path), "a", "b", "c")
    delivered(path, Receiver())
    # {"step": 0, "name": "a"} and its line break are 25 bytes: only "a" is marked as sent.
    path.with_name("box.jsonl.sent").write_text("25\n")
    receiver = Receiver()
    assert delivered(path, receiver) == 0
    assert receiver.taken == ["b", "c"]


def test_line_cut_short_by_a_kill_is_dropped(tmp_path: Path) -> None:
    path = tmp_path / "box.jsonl"
    put(Outbox(path), "a")
    with path.open("a") as file:
        file.write('{"step": 1, "na')
    put(Outbox(path), "b")
    receiver = Receiver()
    assert delivered(path, receiver) == 0
    assert receiver.taken == ["a", "b"]


def test_refused_entry_keeps_none_back(tmp_path: Path) -> None:
    path = tmp_path / "box.jsonl"
    put(Outbox(path), "a", "bad", "b")
    receiver = Receiver(refused="bad")
    assert delivered(path, receiver) == 0
    assert receiver.taken == ["a", "b"]


def test_putting_waits_for_no_receiver(tmp_path: Path) -> None:
    # The receiver hangs until the test releases it, after all entries are written.
    go, taken = threading.Event(), list[object]()

    def hang(entries: Sequence[Entry]) -> int:
        assert go.wait(60)
        taken.extend(entry["name"] for entry in entries)
        return len(entries)

    outbox = Outbox(tmp_path / "box.jsonl")
    outbox.start(hang)
    put(outbox, *"abc")
    assert taken == []
    go.set()
    assert outbox.close(30.0) == 0
    assert taken == list("abc")


def test_closing_gives_up_on_a_receiver_that_hangs(tmp_path: Path) -> None:
    go = threading.Event()

    def hang(entries: Sequence[Entry]) -> int:
        go.wait(60)
        raise DeliveryError("too late")

    outbox = Outbox(tmp_path / "box.jsonl")
    outbox.start(hang)
    put(outbox, "a")
    assert outbox.close(0.2) == 1
    go.set()
