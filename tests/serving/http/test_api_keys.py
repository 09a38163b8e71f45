"""The key file: concurrent commands, and files that are not key files."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from mica_ray.serving.http.api_keys import DEFAULT_SCOPES, SCOPES, KeyFile, KeyRecord, KeyTerms

ADD = "import sys; from mica_ray.serving.http.api_keys import KeyFile; from pathlib import Path; "
ADD += "[KeyFile(Path(sys.argv[1])).add(f'{sys.argv[2]}-{i}') for i in range(20)]"


def test_keys_added_by_two_processes_at_once_are_all_kept(tmp_path: Path) -> None:
    path = tmp_path / "new" / "keys.json"
    commands = [[sys.executable, "-c", ADD, str(path), name] for name in ("ada", "grace")]
    processes = [subprocess.Popen(command) for command in commands]
    assert [process.wait(timeout=120) for process in processes] == [0, 0]
    names = {record.name for record in KeyFile(path).records()}
    assert names == {f"{name}-{i}" for name in ("ada", "grace") for i in range(20)}


REVOKE = "import sys; from mica_ray.serving.http.api_keys import KeyFile; from pathlib import Path; "
REVOKE += "[KeyFile(Path(sys.argv[1])).revoke(f'old-{i}') for i in range(15)]"


def test_no_revocation_is_lost_while_keys_are_added(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    for i in range(15):
        KeyFile(path).add(f"old-{i}")
    commands = [[sys.executable, "-c", REVOKE, str(path)], [sys.executable, "-c", ADD, str(path), "new"]]
    processes = [subprocess.Popen(command) for command in commands]
    assert [process.wait(timeout=120) for process in processes] == [0, 0]
    records = KeyFile(path).records()
    assert {record.name for record in records if record.revoked is None} == {f"new-{i}" for i in range(20)}
    assert len(records) == 35


def test_threads_that_share_a_file_lose_nothing(tmp_path: Path) -> None:
    keys = KeyFile(tmp_path / "keys.json")
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda i: keys.add(f"key-{i}"), range(40)))
        list(threads.map(lambda i: keys.revoke(f"key-{i}"), range(40)))
    assert len(keys.records()) == 40
    assert all(record.revoked is not None for record in keys.records())


def test_a_change_within_one_tick_of_the_clock_is_seen(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    keys = KeyFile(path)
    key = keys.add("ada")
    assert keys.find(key) is not None
    before = path.stat()
    # Another process revokes the key: same length, same time, and even the same inode.
    text = path.read_text()
    path.write_text(text.replace('"revoked": null', '"revoked": 1111'))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert keys.find(key) is None


@pytest.mark.parametrize(("now", "is_valid"), [(99.0, True), (99.9, True), (100.0, False), (101.0, False)])
def test_a_key_expires_at_its_time(tmp_path: Path, now: float, is_valid: bool) -> None:
    clock = [0.0]
    keys = KeyFile(tmp_path / "keys.json", clock=lambda: clock[0])
    key = keys.add("ada", KeyTerms(expires=100))
    clock[0] = now
    assert (keys.find(key) is not None) == is_valid
    assert keys.has_valid_key() == is_valid


def test_a_key_of_an_older_file_has_every_scope(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    record = {"name": "ada", "sha256": "0" * 64, "created": 1, "revoked": None}
    path.write_text(json.dumps({"keys": [record]}))
    (found,) = KeyFile(path).records()
    assert (found.scopes, found.expires, found.daily_tokens) == (SCOPES, None, None)


@pytest.mark.parametrize(
    "change",
    [
        {"scopes": ["admin"]},
        {"scopes": "chat"},
        {"daily_tokens": 0},
        {"max_in_flight": -1},
        {"max_sessions": 0},
        {"expires": "2027-01-01"},
        {"expires": True},
        {"revoked": "yes"},
    ],
    ids=str,
)
def test_invalid_terms_of_a_key_are_named(tmp_path: Path, change: dict[str, object]) -> None:
    path = tmp_path / "keys.json"
    record = {"name": "ada", "sha256": "0" * 64, "created": 1, **change}
    path.write_text(json.dumps({"keys": [record]}))
    with pytest.raises(ValueError, match=f"is not a key file .*{next(iter(change))}"):
        KeyFile(path).records()


def test_a_key_is_revoked_only_in_a_file_that_has_it(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    with pytest.raises(ValueError, match=r"keys\.json does not exist"):
        KeyFile(path).revoke("ada")
    keys = KeyFile(path)
    key = keys.add("ada")
    with pytest.raises(ValueError, match=r"no valid key 'grace'.*serve-key list"):
        keys.revoke("grace")
    keys.revoke("ada")
    assert keys.find(key) is None
    with pytest.raises(ValueError, match="no valid key 'ada'"):
        keys.revoke("ada")


@pytest.mark.parametrize("content", ["{", "[]", "{}", '{"keys": [{"name": "ada"}]}', '{"keys": 3}'])
def test_a_file_of_another_form_is_named_with_the_remedy(tmp_path: Path, content: str) -> None:
    path = tmp_path / "keys.json"
    path.write_text(content)
    with pytest.raises(ValueError, match=r"keys\.json is not a key file .*Restore the file"):
        KeyFile(path).records()


HASH = "0123456789abcdef" * 4


@pytest.mark.parametrize("name", ["", "a" * 65, "a\n", "\u200b"])
def test_a_name_has_1_to_64_printable_characters(name: str) -> None:
    for good in ("a", "a" * 64, "Ada Lovelace, Büro 3"):
        assert KeyRecord(good, HASH, 1).name == good
    with pytest.raises(ValueError) as caught:
        KeyRecord(name, HASH, 1)
    assert str(caught.value) == f"name must have 1 to 64 printable characters, got {name!r}."


@pytest.mark.parametrize("sha256", [HASH[1:], HASH + "0", HASH.upper(), "g" + HASH[1:], "X" + HASH[1:]])
def test_a_hash_has_64_hexadecimal_digits(sha256: str) -> None:
    with pytest.raises(ValueError) as caught:
        KeyRecord("ada", sha256, 1)
    assert str(caught.value) == "sha256 of key 'ada' must have 64 hexadecimal digits."


def test_limits_of_a_key_begin_at_1() -> None:
    for field in ("max_in_flight", "max_sessions", "daily_tokens"):
        assert getattr(KeyRecord("ada", HASH, 1, **{field: 1}), field) == 1  # pyright: ignore
        with pytest.raises(ValueError) as caught:
            KeyRecord("ada", HASH, 1, **{field: 0})  # pyright: ignore
        assert str(caught.value) == f"{field} of key 'ada' must be >= 1, got 0."


def test_scopes_that_are_not_known_or_no_list_are_named(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    faults = {
        "chat": "TypeError: scopes must be a list, got str",
        ("admin",): "ValueError: scopes of key 'ada' must be among chat, support, metrics, got 'admin'.",
    }
    for scopes, fault in faults.items():
        record = {"name": "ada", "sha256": HASH, "created": 1, "scopes": scopes}
        path.write_text(json.dumps({"keys": [record]}))
        with pytest.raises(ValueError) as caught:
            KeyFile(path).records()
        remedy = "Restore the file, or name another one with --file."
        assert str(caught.value) == f"{path} is not a key file ({fault}). {remedy}"


def test_a_new_key_is_stored_as_its_hash_and_cannot_be_guessed(tmp_path: Path) -> None:
    keys = KeyFile(tmp_path / "new" / "folder" / "keys.json", clock=lambda: 12.9)
    key = keys.add("ada", KeyTerms(daily_tokens=5))
    # 32 random bytes are 43 characters of 6 bits each.
    assert key.startswith("mica-") and len(key) == len("mica-") + 43
    digest = hashlib.sha256(key.encode()).hexdigest()
    assert keys.records() == (KeyRecord("ada", digest, 12, scopes=DEFAULT_SCOPES, daily_tokens=5),)
    assert keys.path.stat().st_mode & 0o777 == 0o600
    assert keys.path.read_text().startswith('{\n  "keys": [\n    {\n      "name": "ada",')
    with pytest.raises(ValueError) as caught:
        keys.add("ada")
    assert str(caught.value) == f"{keys.path} already has a key 'ada'. Choose another name."
    assert keys.find("no \ud800 text") is None  # Headers can contain any byte.


def test_a_file_is_read_again_only_if_it_changed_or_is_younger_than_2_seconds(tmp_path: Path) -> None:
    now = [0.0]
    keys = KeyFile(tmp_path / "keys.json", clock=lambda: now[0])
    assert keys.records() == ()
    KeyFile(keys.path).add("ada")
    os.utime(keys.path, (1000, 1000))
    now[0] = 1010.0
    old = keys.records()
    assert [record.name for record in old] == ["ada"]
    for now[0], is_kept in ((1002.0, True), (1001.75, False), (1002.0, True)):
        assert (keys.records() is keys.records()) == is_kept
    KeyFile(keys.path).add("grace")
    os.utime(keys.path, (1000, 1000))  # The file is another one, although its time is the same.
    assert [record.name for record in keys.records()] == ["ada", "grace"]
