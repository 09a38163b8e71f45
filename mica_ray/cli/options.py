"""Options that many commands take."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer

Sets = Annotated[
    Optional[list[str]],  # noqa: UP045
    typer.Option("--set", metavar="KEY.PATH=VALUE", help="Change one key of the config; repeatable."),
]
JsonFile = Annotated[
    Optional[Path],  # noqa: UP045
    typer.Option("--json", metavar="FILE", help="Write the table as JSON too."),
]
Inline = Annotated[bool, typer.Option("--inline", help="All in this process: no Ray, no vLLM, no DeepSpeed.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Print the plan; check; start nothing.")]
