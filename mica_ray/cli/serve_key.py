"""`mica serve-key`: add, list and revoke the API keys of a service."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from mica_ray.cli.options import JsonFileOption, examples, save_json

serve_key_app = typer.Typer(
    name="serve-key",
    help="Add, list and revoke the API keys of a service.",
    epilog=examples("mica serve-key add ada --file keys.json", "mica serve-key revoke ada --file keys.json"),
    no_args_is_help=True,
)
KeyNameArgument = Annotated[str, typer.Argument(metavar="NAME", help="Name of the key's owner.")]
KeysFileOption = Annotated[
    Path, typer.Option("--file", metavar="KEYS", help="File with the hashes of the keys.")
]


@serve_key_app.command("add")
def add_key_command(name: KeyNameArgument, file: KeysFileOption) -> None:
    """Create a key and print it. It cannot be shown again."""
    from mica_ray.config import ConfigError
    from mica_ray.serving.http.api_keys import KeyFile

    try:
        key = KeyFile(file).add(name)
    except (ValueError, OSError) as error:
        raise ConfigError(str(error)) from error
    Console(stderr=True).print(
        f"{file} keeps only a hash of this key. Store the key now; it is not shown again.", style="dim"
    )
    print(key)


@serve_key_app.command("list")
def list_keys_command(file: KeysFileOption, json_file: JsonFileOption = None) -> None:
    """List the keys by owner, with their dates."""
    from mica_ray.config import ConfigError
    from mica_ray.serving.http.api_keys import KeyFile

    try:
        records = KeyFile(file).records()
    except ValueError as error:
        raise ConfigError(str(error)) from error
    table = Table("name", "created", "revoked")
    for record in records:
        table.add_row(
            record.name, _day(record.created), "" if record.revoked is None else _day(record.revoked)
        )
    Console().print(table)
    keys = [{"name": key.name, "created": key.created, "revoked": key.revoked} for key in records]
    save_json(json_file, {"keys": keys})


@serve_key_app.command("revoke")
def revoke_key_command(name: KeyNameArgument, file: KeysFileOption) -> None:
    """Revoke a key. A running service refuses it from the next request on."""
    from mica_ray.config import ConfigError
    from mica_ray.serving.http.api_keys import KeyFile

    try:
        KeyFile(file).revoke(name)
    except (ValueError, OSError) as error:
        raise ConfigError(str(error)) from error


def _day(seconds: int) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(seconds))
