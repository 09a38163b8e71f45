"""Why the scores of a result cannot be compared with published ones, as sentences for the notes."""

from __future__ import annotations

import re
from collections.abc import Iterable

from mica_ray.domains.empa.official import OFFICIAL_IDS
from mica_ray.evaluation.tables import CONTAMINATED
from mica_ray.reporting.models.results import EMOBENCH, EQBENCH2, EQBENCH3, TITLES, BenchmarkResult

NUM_QUESTIONS = {EMOBENCH: 800, EQBENCH2: 171, EQBENCH3: 45}
"""Questions of the published benchmarks."""
PUBLISHED_JUDGE = "claude37sonnet"
"""Letters and digits in the names of the judge of EQ-Bench 3's published scores."""
OWN_METHODS = {
    EMOBENCH: "EmoBench is asked with our own prompts and shuffled choices",
    EQBENCH2: "EQ-Bench v2 is the mean of the last answers; published results are the higher of two means",
    EQBENCH3: "EQ-Bench 3 is sampled without min_p, and replies without headings are judged as they are",
}
"""How every score of a benchmark here differs from published ones."""


def dialogue_reasons(cases: Iterable[object], *, is_contaminated: bool) -> tuple[str, ...]:
    """Return why dialogues are not the benchmark EMPA.

    Args:
        cases: ids of the scored cases.
        is_contaminated: whether official cases were training scenarios.
    """
    ids = {str(case) for case in cases}
    official = len(ids & OFFICIAL_IDS)
    reasons: list[str] = []
    if len(ids) > official:
        reasons.append(f"{len(ids) - official} of {len(ids)} cases are none of EMPA's official cases")
    if official < len(OFFICIAL_IDS):
        reasons.append(f"only {official} of EMPA's {len(OFFICIAL_IDS)} official cases have a score")
    return (*reasons, *([CONTAMINATED] if is_contaminated else []))


def answer_reasons(result: BenchmarkResult) -> tuple[str, ...]:
    """Return why answers to questions are not the whole benchmark."""
    wanted, found = NUM_QUESTIONS.get(result.benchmark), len(result.items)
    if wanted is None or found >= wanted:
        return ()
    return (f"only {found} of {wanted} questions of {TITLES[result.benchmark]} have a score",)


def judge_reasons(judge: str) -> tuple[str, ...]:
    """Return why judgements are not those of EQ-Bench 3's published scores."""
    if PUBLISHED_JUDGE in re.sub(r"[^a-z0-9]", "", judge.lower()):
        return ()
    return (f"EQ-Bench 3 was judged by {judge}, not by Claude 3.7 Sonnet",)
