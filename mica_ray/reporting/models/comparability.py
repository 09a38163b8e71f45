"""Why answers to questions and EQ-Bench 3 cannot be compared with published scores.

For EMPA see evaluation/comparable.py.
"""

from __future__ import annotations

import re

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
