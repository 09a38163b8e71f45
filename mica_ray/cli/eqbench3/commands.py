"""The commands `mica evaluate eqbench3` and `mica evaluate eqbench3 elo`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mica_ray.cli.eqbench3.judge import DataOption
from mica_ray.cli.options import (
    InlineOption,
    JsonFileOption,
    JudgeOption,
    PolicyOption,
    SetOption,
    TrustOption,
    examples,
    group_with_default,
)
from mica_ray.cli.questions import LimitOption

DEFAULT = "score"
"""The command behind `mica evaluate eqbench3 --policy ...`."""

eqbench3_app = typer.Typer(
    cls=group_with_default(DEFAULT),
    name="eqbench3",
    help="Play EQ-Bench 3 and have a judge score it; `elo` ranks several policies.\n\n"
    "`mica evaluate eqbench3 score --help` lists the options.",
    epilog=examples(
        "mica evaluate eqbench3 --policy runs/a --judge vllm:Qwen/Qwen3-32B --data eqbench3",
        "mica evaluate eqbench3 elo runs/eqbench3-a runs/eqbench3-b --judge vllm:M --data eqbench3",
    ),
)


@eqbench3_app.command(
    DEFAULT,
    epilog=examples(
        "mica evaluate eqbench3 --policy runs/a --judge vllm:Qwen/Qwen3-32B --data eqbench3",
        "mica evaluate eqbench3 --policy MODEL --judge vllm:M --data eqbench3 --limit 1",
    ),
)
def score_command(
    policy: PolicyOption,
    judge: JudgeOption,
    data: DataOption,
    samples: Annotated[int, typer.Option(min=1, help="Conversations about each item.")] = 1,
    limit: LimitOption = None,
    out: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Folder of the conversations. Default: runs/eqbench3-POLICY."),
    ] = None,
    inline: InlineOption = False,
    sets: SetOption = None,
    json_file: JsonFileOption = None,
    trust: TrustOption = False,
) -> None:
    """Play EQ-Bench 3 with a policy, and score it with a judge.

    Every reply and judgement is kept: the same command continues where an earlier one stopped.
    Another judge judges the same conversations.
    """
    from mica_ray.cli.eqbench3.scoring import evaluate

    evaluate(
        policy,
        judge,
        data,
        samples=samples,
        limit=limit,
        out=out,
        inline=inline,
        sets=sets or (),
        json_file=json_file,
    )


@eqbench3_app.command(
    "elo",
    epilog=examples(
        "mica evaluate eqbench3 elo runs/eqbench3-a runs/eqbench3-b --judge vllm:M --data eqbench3"
    ),
)
def elo_command(
    runs: Annotated[
        list[Path],
        typer.Argument(metavar="RUN...", help="Folders of conversations, one for each policy."),
    ],
    judge: JudgeOption,
    data: DataOption,
    out: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Folder of the comparisons. Default: runs/eqbench3-elo-JUDGE."),
    ] = None,
    inline: InlineOption = False,
    sets: SetOption = None,
    json_file: JsonFileOption = None,
    trust: TrustOption = False,
) -> None:
    """Rank policies: a judge compares their conversations in pairs, each pair in both orders.

    Every comparison is kept: the same command continues where an earlier one stopped.
    """
    from mica_ray.cli.eqbench3.ranking import rank

    rank(runs, judge, data, out=out, inline=inline, sets=sets or (), json_file=json_file)
