"""The key file: concurrent commands, and files that are not key files."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from mica_ray.serving.http.api_keys import KeyFile

ADD = "import sys; from mica_ray.serving.http.api_keys import KeyFile; from pathlib import Path; "
ADD += "[KeyFile(Path(sys.argv[1])).add(f'{sys.argv[2]}-{i}') for i in range(20)]"


def test_keys_added_by_two_processes_at_once_are_all_kept(tmp_path: Path) -> None:
    path = tmp_path / "new" / "keys.json"
    commands = [[sys.executable, "-c", ADD, str(path), name] for name in ("ada", "grace")]
    processes = [subprocess.Popen(command) for command in commands]
    assert [process.wait(timeout=120) for process in processes] == [0, 0]
    names = {record.name for record in KeyFile(path).records()}
    assert names == {f"{name}-{i}" for name in ("ada", "grace") for i in range(20)}


def test_a_key_is_revoked_only_in_a_file_that_has_it(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    with pytest.raises(ValueError, match=r"keys\.json does not exist"):
        KeyFile(path).revoke("ada")
    keys = KeyFile(path)
    key = keys.add("ada")
    with pytest.raises(ValueError, match=r"no valid key 'grace'.*serve-key list"):
        keys.revoke("grace")
    keys.revoke("ada")
    assert keys.owner(key) is None
    with pytest.raises(ValueError, match="no valid key 'ada'"):
        keys.revoke("ada")


@pytest.mark.parametrize("content", ["{", "[]", "{}", '{"keys": [{"name": "ada"}]}', '{"keys": 3}'])
def test_a_file_of_another_form_is_named_with_the_remedy(tmp_path: Path, content: str) -> None:
    path = tmp_path / "keys.json"
    path.write_text(content)
    with pytest.raises(ValueError, match=r"keys\.json is not a key file .*Restore the file"):
        KeyFile(path).records()
