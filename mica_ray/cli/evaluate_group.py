"""`mica evaluate`: a group of commands that takes anything else as the model to evaluate."""

from __future__ import annotations

import typer
from typer.core import TyperGroup

MODEL_COMMAND = "model"
"""What `mica evaluate MODEL` stands for; a policy named like a command is given as a path, ./rescore."""


class EvaluateGroup(TyperGroup):
    """Puts MODEL_COMMAND before arguments that begin with no command of the group."""

    # typer's base class names a context of its own private copy of click.
    def parse_args(self, ctx: typer.Context, args: list[str]) -> list[str]:  # pyright: ignore
        """Take the arguments as the model's when they name no command."""
        if args[:1] != ["--help"] and (not args or args[0] not in self.commands):
            args = [MODEL_COMMAND, *args]
        return super().parse_args(ctx, args)
