"""A group of commands that takes arguments naming none of them as those of one of its commands.

So `mica evaluate MODEL` stands beside `mica evaluate rescore`, and `mica credit FILES` beside its siblings.
"""

from __future__ import annotations

from typing import ClassVar

import typer
from typer.core import TyperGroup

MODEL_COMMAND = "model"
"""What `mica evaluate MODEL` stands for; a policy named like a command is given as a path, ./rescore."""

COMPARE_COMMAND = "compare"
"""What `mica credit FILES` stands for; a file named like a command is given as a path, ./compare."""


class OpenGroup(TyperGroup):
    """Puts `unnamed` before arguments that begin with no command of the group."""

    unnamed: ClassVar[str]

    # typer's base class names a context of its own private copy of click.
    def parse_args(self, ctx: typer.Context, args: list[str]) -> list[str]:  # pyright: ignore
        """Take the arguments as those of the unnamed command when they name none."""
        if args[:1] != ["--help"] and (not args or args[0] not in self.commands):
            args = [self.unnamed, *args]
        return super().parse_args(ctx, args)


class EvaluateGroup(OpenGroup):
    """`mica evaluate`: anything else is the model to evaluate."""

    unnamed = MODEL_COMMAND


class CreditGroup(OpenGroup):
    """`mica credit`: anything else is a file or run whose dialogues are credited."""

    unnamed = COMPARE_COMMAND
