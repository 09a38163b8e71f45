"""`mica merge`: write a trained adapter and its base model as one model folder."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mica_ray.cli.options import ModelArgument, TrustOption, new_console


def merge_command(
    model: ModelArgument,
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="FOLDER", help="Folder to write. Default: merged, in the run folder."),
    ] = None,
    trust: TrustOption = False,
) -> None:
    """Write the adapter of a run and its base model as one model folder.

    The commands of mica read adapters as they are. Other programs need the whole model.
    """
    from mica_ray.cli.recipes import read_model
    from mica_ray.config.references import ConfigError
    from mica_ray.launch.policy_source import merge_policy
    from mica_ray.runs.folder import RunFolder

    path = Path(model).expanduser()
    if out is None and not RunFolder.holds_run(path):
        raise ConfigError(f"{model}: is no run folder. Set --out to the folder to write.")
    policy, folder = read_model(model, ()).policy, out or path / "merged"
    console = new_console()
    with console.status("merging"):
        merge_policy(policy, folder)
    console.print(f"wrote {folder}", soft_wrap=True, highlight=False, markup=False)
