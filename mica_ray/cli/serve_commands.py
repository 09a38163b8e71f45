"""The commands `mica serve` and `mica serve-key` and their options."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Optional

import typer

from mica_ray.cli.options import DryRun, JsonFile, Sets


def serve(
    models: Annotated[
        list[str],
        typer.Argument(
            metavar="MODEL...",
            help="One or two of: a run folder, models:/NAME/VERSION, a model folder, a hub id, `embedded`.",
        ),
    ],
    host: Annotated[str, typer.Option(help="Beyond this machine only with --api-key-file.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535)] = 8000,
    api_key_file: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(metavar="FILE", help="Keys made by `mica serve-key add`; whoever has none is refused."),
    ] = None,
    replicas: Annotated[int, typer.Option(min=1, help="Copies of each model.")] = 1,
    max_replicas: Annotated[
        Optional[int],  # noqa: UP045
        typer.Option(min=1, help="More than --replicas: the number of copies follows the load."),
    ] = None,
    judge: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(help="Who estimates the need state in support sessions, as roles.judge takes it."),
    ] = None,
    help_lines: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(
            metavar="FILE", help="Texts that lead the answer to someone in danger, by locale; JSON."
        ),
    ] = None,
    care: Annotated[bool, typer.Option(help="Look for signs of acute danger in what is written.")] = True,
    sampler: Annotated[
        Literal["vllm", "transformers", "ray-llm"],
        typer.Option(help="vLLM in our replicas, transformers for a quick look, or ray.serve.llm."),
    ] = "vllm",
    sets: Sets = None,
    dry_run: DryRun = False,
    json_file: JsonFile = None,
) -> None:
    """Serve a model to any OpenAI client, with a page to try it; keys under serve. in --set bound it."""
    from mica_ray.cli.serve import ServeOptions, run_serve

    options = ServeOptions(
        host=host,
        port=port,
        keys_file=api_key_file,
        replicas=replicas,
        max_replicas=max_replicas,
        judge=judge,
        help_lines=help_lines,
        has_care=care,
        sampler=sampler,
    )
    run_serve(models, options, assignments=sets or (), dry_run=dry_run, json_file=json_file)


serve_key = typer.Typer(name="serve-key", help="The API keys of a service.", no_args_is_help=True)
KeyName = Annotated[str, typer.Argument(metavar="NAME", help="Whose key it is; for your own eyes.")]
KeysFile = Annotated[Path, typer.Option("--file", metavar="KEYS", help="The file of hashes.")]


@serve_key.command()
def add(name: KeyName, file: KeysFile) -> None:
    """Make a key and print it, this once."""
    from mica_ray.cli.serve_key import run_add

    run_add(name, file)


@serve_key.command("list")
def list_keys(file: KeysFile, json_file: JsonFile = None) -> None:
    """Print whose keys there are, and which are revoked."""
    from mica_ray.cli.serve_key import run_list

    run_list(file, json_file=json_file)


@serve_key.command()
def revoke(name: KeyName, file: KeysFile) -> None:
    """Let a key open nothing any more, in a running service too."""
    from mica_ray.cli.serve_key import run_revoke

    run_revoke(name, file)
