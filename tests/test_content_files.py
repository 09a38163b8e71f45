"""Which files of a folder count as content, and the notice about the others."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from mica_ray.content_files import content_files, is_side_file, named_file

SIDE = (
    "._a.md", ".DS_Store", ".a.md.swp", ".#a.md", ".~lock.a.md#", "~$a.md", "a.md~", "#a.md#", "a.swp",
    "a.SWO", "a.md.lock", "A.LOCK", "a.tmp", "a.md.bak", "a.md.part", "a.md.crdownload", "Thumbs.db",
    "THUMBS.DB", "desktop.ini", "Icon\r", "__MACOSX", ".hidden.MD", ".ipynb_checkpoints",
)  # fmt: skip
CONTENT = ("a.md", "B.MD", "c.Md", "d~e.md", "#f.md", "lock.md", "g.tmp.md", "thumbs.db.md")


@pytest.mark.parametrize("name", SIDE)
def test_what_a_system_or_an_editor_left_is_no_content(name: str) -> None:
    assert is_side_file(name)


@pytest.mark.parametrize("name", [*CONTENT, "notes.txt", "README"])
def test_content_is_kept(name: str) -> None:
    assert not is_side_file(name)


def test_side_files_are_skipped_with_one_notice(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for name in (*SIDE, *CONTENT, "notes.txt"):
        (tmp_path / name).touch()
    os.symlink("nobody@nowhere.1234", tmp_path / ".#b.md")  # the lock of an editor: a link to nothing
    (tmp_path / os.fsdecode(b"._\xff.md")).touch()
    (tmp_path / "nested").mkdir()
    (tmp_path / "nested" / "z.md").touch()
    for _ in range(2):
        assert sorted(file.name for file in content_files(tmp_path, ".md")) == sorted(CONTENT)
    (notice,) = caplog.messages
    notice.encode()
    # 23 names, the broken link and the undecodable name; five are listed.
    assert str(tmp_path) in notice and "and 20 more" in notice


def test_folder_without_side_files_needs_no_notice(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "a.md").touch()
    assert content_files(tmp_path, ".md", ".txt") == (tmp_path / "a.md",)
    assert content_files(tmp_path / "missing", ".md") == ()
    assert caplog.messages == []


def test_named_file_is_found_in_any_letter_case_once(tmp_path: Path) -> None:
    assert named_file(tmp_path, "list.json") == tmp_path / "list.json"
    (tmp_path / "List.JSON").touch()
    assert named_file(tmp_path, "list.json") == tmp_path / "List.JSON"
    (tmp_path / "list.json").touch()
    with pytest.raises(ValueError, match=r"List\.JSON and .*list\.json have the same name"):
        named_file(tmp_path, "list.json")
