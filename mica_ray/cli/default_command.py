"""Groups of commands that take anything else as the arguments of one command of theirs."""

from __future__ import annotations

import typer
from typer.core import TyperGroup

MODEL_COMMAND = "model"
"""What `mica evaluate MODEL` stands for; a policy named like a command is given as a path, ./rescore."""
RUNS_COMMAND = "runs"
"""What `mica report RUN...` stands for; a run named like a command is given as a path, ./turns."""
COMPARE_COMMAND = "compare"
"""What `mica credit FILES` stands for; a file named like a command is given as a path, ./compare."""


def group_with_default(command: str) -> type[TyperGroup]:
    """Give a group that puts a command before arguments that begin with no command of the group."""

    class GroupWithDefault(TyperGroup):
        # typer's base class names a context of its own private copy of click.
        def parse_args(self, ctx: typer.Context, args: list[str]) -> list[str]:  # pyright: ignore
            """Take the arguments as the default command's when they name none."""
            if args[:1] != ["--help"] and (not args or args[0] not in self.commands):
                args = [command, *args]
            return super().parse_args(ctx, args)

    return GroupWithDefault
