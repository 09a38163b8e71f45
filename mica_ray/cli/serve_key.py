"""`mica serve-key`: add, list and revoke the API keys of a service."""

from __future__ import annotations

import time
from dataclasses import asdict
from datetime import UTC, date, datetime, timedelta
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

_LIMITS = ("max_in_flight", "max_sessions", "daily_tokens")


@serve_key_app.command("add")
def add_key_command(
    name: KeyNameArgument,
    file: KeysFileOption,
    scope: Annotated[
        list[str] | None,
        typer.Option(
            "--scope",
            metavar="SCOPE",
            help="What the key is for: chat, support (sessions) or metrics. Can be given several times. "
            "Default: chat and support.",
        ),
    ] = None,
    expires: Annotated[
        str | None,
        typer.Option(
            metavar="WHEN",
            help="When it expires: days from now such as 30d, or a date such as 2030-12-31 (UTC).",
        ),
    ] = None,
    max_in_flight: Annotated[
        int | None, typer.Option(min=1, help="Requests at the same time. Default: the service's limit.")
    ] = None,
    max_sessions: Annotated[
        int | None, typer.Option(min=1, help="Sessions at the same time. Default: the service's limit.")
    ] = None,
    daily_tokens: Annotated[
        int | None, typer.Option(min=1, help="Tokens a day (UTC). Default: the service's limit.")
    ] = None,
) -> None:
    """Create a key and print it. It cannot be shown again."""
    from mica_ray.config import ConfigError
    from mica_ray.serving.http.api_keys import DEFAULT_SCOPES, SCOPES, KeyFile, KeyTerms

    for name_of_scope in scope or ():
        if name_of_scope not in SCOPES:
            raise ConfigError(f"--scope {name_of_scope} does not exist. Use {', '.join(SCOPES)}.")
    terms = KeyTerms(
        expires=None if expires is None else _expiry(expires),
        scopes=tuple(known for known in SCOPES if known in (scope or DEFAULT_SCOPES)),
        max_in_flight=max_in_flight,
        max_sessions=max_sessions,
        daily_tokens=daily_tokens,
    )
    try:
        key = KeyFile(file).add(name, terms)
    except (ValueError, OSError) as error:
        raise ConfigError(str(error)) from error
    Console(stderr=True).print(
        f"{file} keeps only a hash of this key. Store the key now; it is not shown again.", style="dim"
    )
    print(key)


@serve_key_app.command("list")
def list_keys_command(file: KeysFileOption, json_file: JsonFileOption = None) -> None:
    """List the keys by owner, with their dates, scopes and limits."""
    from mica_ray.config import ConfigError
    from mica_ray.serving.http.api_keys import KeyFile

    try:
        records = KeyFile(file).records()
    except ValueError as error:
        raise ConfigError(str(error)) from error
    table = Table("name", "created", "expires", "revoked", "scopes", "own limits")
    for record in records:
        limits = [f"{name}={getattr(record, name)}" for name in _LIMITS if getattr(record, name) is not None]
        table.add_row(
            record.name,
            *map(_day, (record.created, record.expires, record.revoked)),
            " ".join(record.scopes),
            " ".join(limits),
        )
    Console().print(table)
    keys = [{name: value for name, value in asdict(key).items() if name != "sha256"} for key in records]
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


def _day(seconds: int | None) -> str:
    return "" if seconds is None else time.strftime("%Y-%m-%d %H:%M", time.localtime(seconds))


def _expiry(text: str) -> int:
    """Return the Unix time of `30d` from now, or of the end of a date.

    Raises:
        ConfigError: it has another form, or is in the past.
    """
    from mica_ray.config import ConfigError

    try:
        if text.endswith("d"):
            moment = datetime.now(UTC) + timedelta(days=int(text[:-1]))
        else:
            moment = datetime.combine(date.fromisoformat(text), datetime.min.time(), UTC) + timedelta(days=1)
    except (ValueError, OverflowError) as error:
        raise ConfigError(f"--expires {text} is no time. Use days such as 30d, or a date.") from error
    if moment <= datetime.now(UTC):
        raise ConfigError(f"--expires {text} has passed. Use a later time.")
    return int(moment.timestamp())
