"""`mica serve-key`: add, list and revoke the API keys of a service."""

from __future__ import annotations

import time
from pathlib import Path

from rich.console import Console
from rich.table import Table

from mica_ray.config import ConfigError
from mica_ray.files import write_json
from mica_ray.serving.http.api_keys import KeyFile


def run_add(name: str, file: Path) -> None:
    """Make a key and print it, this once.

    Raises:
        ConfigError: the name is taken, or the file is none of keys.
    """
    try:
        key = KeyFile(file).add(name)
    except (ValueError, OSError) as error:
        raise ConfigError(str(error)) from error
    Console(stderr=True).print(f"{file} keeps only a hash of this key; it is not shown again", style="dim")
    print(key)


def run_revoke(name: str, file: Path) -> None:
    """Revoke a key; a running service sees it at the next request.

    Raises:
        ConfigError: there is no such key.
    """
    try:
        KeyFile(file).revoke(name)
    except (ValueError, OSError) as error:
        raise ConfigError(str(error)) from error


def run_list(file: Path, *, json_file: Path | None) -> None:
    """Print names and dates.

    Raises:
        ConfigError: the file is none of keys.
    """
    try:
        records = KeyFile(file).records()
    except ValueError as error:
        raise ConfigError(str(error)) from error
    table = Table("name", "made", "revoked")
    for record in records:
        table.add_row(
            record.name, _day(record.created), "" if record.revoked is None else _day(record.revoked)
        )
    Console().print(table)
    if json_file is not None:
        keys = [{"name": r.name, "created": r.created, "revoked": r.revoked} for r in records]
        write_json(json_file, {"keys": keys})


def _day(seconds: int) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(seconds))
