"""Options and arguments that several commands share, and what they share in writing files."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from typer.core import TyperGroup

if TYPE_CHECKING:
    from rich.console import Console

ModelArgument = Annotated[
    str,
    typer.Argument(metavar="MODEL", help="A run folder, a model folder, a Hugging Face id, or `embedded`."),
]
RecipeArgument = Annotated[
    str | None,
    typer.Argument(
        metavar="RECIPE",
        help="A Python file that defines CONFIG, FILE.py:NAME, or the config.json of a run. "
        "Default: the embedded run.",
    ),
]
CardsArgument = Annotated[
    str, typer.Argument(metavar="DIR", help="A folder of cards, or the id of a Hugging Face dataset.")
]
RatingsOption = Annotated[
    Path | None,
    typer.Option("--ratings", metavar="FILE", help="Ratings in a file outside the folder."),
]
RunArgument = Annotated[Path, typer.Argument(metavar="RUN", help="A run folder.")]
SetOption = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="KEY.PATH=VALUE", help="Change one key of the config. Can be given several times."
    ),
]
JsonFileOption = Annotated[
    Path | None,
    typer.Option("--json", metavar="FILE", help="Also write the printed table to this file as JSON."),
]
InlineOption = Annotated[
    bool,
    typer.Option("--inline", help="Run everything in this process, without Ray, vLLM and DeepSpeed."),
]
DryRunOption = Annotated[
    bool, typer.Option("--dry-run", help="Check the config and print the plan, without starting anything.")
]


JUDGE_VALUES: Mapping[str, object] = {
    "roles.max_tokens": 1536,  # 18 fields with quotations; in Chinese they take more than 1024.
    "roles.deadline_seconds": 600.0,  # A small model on two CPU cores writes 1536 tokens in minutes, twice.
    "roles.engine.max_model_len": 8192,  # Rubric, a card or 45 turns, and the answer.
}
"""Settings of a judge that a command asks outside of a run; `--set` changes them."""


def _trust(is_given: bool) -> bool:
    from mica_ray.config.trust import give_trust, withdraw_trust

    if is_given:
        give_trust()
    else:
        withdraw_trust()
    return is_given


TrustOption = Annotated[
    bool,
    typer.Option(
        "--trust",
        callback=_trust,
        is_eager=True,
        help="Let a stored config run code outside of mica_ray, and send API keys to the addresses it names. "
        "Not needed for a run without such code or keys.",
    ),
]
ROLE_FORMS = "an endpoint as JSON, vllm:MODEL, module:CLASS or `scripted`"
"""The forms in which an option names a role model; config/role_config.py reads them."""
PolicyOption = Annotated[
    str,
    typer.Option(
        "--policy",
        help="The policy: a run folder, a model folder, a Hugging Face id, an endpoint as JSON, or "
        "module:CLASS.",
    ),
]
JudgeOption = Annotated[str, typer.Option("--judge", help=f"The judge: {ROLE_FORMS}.")]
ActorOption = Annotated[
    str | None,
    typer.Option("--actor", help="The model that plays the user. Default: the judge's model."),
]
DirectorOption = Annotated[
    str | None,
    typer.Option("--director", help="The model that directs the user. Default: the judge's model."),
]


def examples(*lines: str) -> str:
    """Return the text below a command's help: one example per line."""
    return "\n\n".join(("Examples:", *lines))


def group_with_default(command: str) -> type[TyperGroup]:
    """Return a group class that inserts `command` unless the first argument names a command of the group.

    `mica evaluate MODEL` then runs `mica evaluate model MODEL`. A model or run that has the name of a command
    needs a path: ./rescore.
    """

    class GroupWithDefault(TyperGroup):
        # typer's base class refers to a context of its own private copy of click.
        def parse_args(self, ctx: typer.Context, args: list[str]) -> list[str]:  # pyright: ignore
            """Insert the default command where the arguments name none."""
            if args[:1] != ["--help"] and (not args or args[0] not in self.commands):
                args = [command, *args]
            return super().parse_args(ctx, args)

    return GroupWithDefault


@contextmanager
def writing(option: str, path: Path) -> Iterator[None]:
    """Convert a failure to write `path` into a config error that names the option.

    Raises:
        ConfigError: the path cannot be written.
    """
    try:
        yield
    except OSError as error:
        from mica_ray.config.references import ConfigError

        raise ConfigError(
            f"{option} {path}: cannot be written ({error.strerror}). Choose another path."
        ) from error


def new_console(*, stderr: bool = False) -> Console:
    """Return a console that prints every text as it is: names and texts from outside may look like markup.

    Args:
        stderr: whether it prints to the standard error.
    """
    from rich.console import Console

    return Console(stderr=stderr, markup=False, emoji=False)


def save_json(json_file: Path | None, record: Mapping[str, object]) -> None:
    """Write the record of `--json FILE`; do nothing without the option.

    Raises:
        ConfigError: the file cannot be written.
    """
    if json_file is None:
        return
    from mica_ray.files import write_json

    with writing("--json", json_file):
        write_json(json_file, record)
