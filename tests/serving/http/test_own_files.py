"""Files that the service cannot write are named before it starts."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from mica_ray.serving.http.own_files import check_files
from mica_ray.serving.http.settings import ServeSettings

KEYS = ["audit_file", "votes_file", "sessions_file"]


def settings(key: str, path: Path) -> ServeSettings:
    return ServeSettings(**{"sessions": True, key: path})


@pytest.mark.parametrize("key", KEYS)
def test_a_folder_is_no_file(tmp_path: Path, key: str) -> None:
    with pytest.raises(ValueError, match=rf"^serve\.{key}={tmp_path}: this is a folder"):
        check_files(settings(key, tmp_path))


@pytest.mark.parametrize("key", KEYS)
def test_a_file_below_a_file_cannot_be_created(tmp_path: Path, key: str) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match=r"cannot be created below .*file"):
        check_files(settings(key, tmp_path / "file" / "new" / "x"))


@pytest.mark.parametrize("content", [b"garbage", b"SQLite format 2\0", b"{}", b"\0"])
def test_a_sessions_file_of_another_kind_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "sessions.db"
    path.write_bytes(content)
    with pytest.raises(ValueError, match="not an SQLite file"):
        check_files(settings("sessions_file", path))
    check_files(settings("audit_file", path))


@pytest.mark.parametrize("key", KEYS)
def test_a_new_file_and_an_empty_one_are_accepted(tmp_path: Path, key: str) -> None:
    check_files(settings(key, tmp_path / "new" / "deep" / "x"))
    (tmp_path / "empty").write_bytes(b"")
    check_files(settings(key, tmp_path / "empty"))
    check_files(ServeSettings())


def test_a_database_is_accepted(tmp_path: Path) -> None:
    path = tmp_path / "sessions.db"
    database = sqlite3.connect(path)
    database.execute("CREATE TABLE session (id TEXT)")
    database.close()
    check_files(settings("sessions_file", path))
