from __future__ import annotations

from collections.abc import Mapping

import pytest

from mica_ray.config import RunConfig
from mica_ray.config.overrides import override
from mica_ray.tuning.space import Dimension, Options, Span
from mica_ray.tuning.sweep import Asha, Grid, Optuna, Pbt, Random, Sweep, SweepBudget

ALPHA: Mapping[str, Options] = {"credit.alpha": (0.0, 1.0)}


def sweep(**changes: object) -> Sweep:
    values: dict[str, object] = {"name": "try", "question": "?", "space": ALPHA, **changes}
    return Sweep(**values)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"space": {}}, "space is empty"),
        ({"space": {"credit.alpha": ()}}, "space['credit.alpha'] has no options"),
        ({"space": {"credit.alpha": (0.5, 0.5)}}, "options with the same label: 0.5, 0.5"),
        ({"space": {"seed": (0, 1)}}, "must not contain seed"),
        ({"space": {"a+b": {"x": (1, 2, 3)}}}, "needs tuples of 2 values"),
        ({"space": {"credit.alpha": Span(0, 1)}}, "is a Span, which Grid cannot enumerate"),
        ({"seeds": (0, 0)}, "seeds must be one or more different integers"),
        ({"seeds": ()}, "seeds must be one or more different integers"),
        ({"metric": "eval_epmq"}, "metric: no run logs 'eval_epmq'. Did you mean eval_epm_q"),
        ({"metric": "eval_failed_dialogues"}, "metric must be a training metric or one of"),
        ({"curve": "eval_epm_q"}, "curve must be a training metric"),
        ({"name": "a/b"}, "name must start with a letter or digit"),
        ({"retries": -1}, "retries must be >= 0"),
        ({"cpus": 0}, "cpus must be > 0"),
        ({"scheduler": Asha(metric="eval_epm_q")}, "Set loop.evaluate_every > 0"),
        ({"scheduler": Asha(metric="idr")}, "scheduler.metric: no run logs 'idr'"),
        ({"scheduler": Pbt(every_steps=7)}, "must be a multiple of loop.checkpoint_every, got"),
    ],
)
def test_bad_sweep_is_refused_by_name(changes: dict[str, object], complaint: str) -> None:
    with pytest.raises(ValueError) as caught:
        sweep(**changes)
    assert complaint in str(caught.value)


def test_scheduler_may_read_an_evaluation_that_is_made_during_training() -> None:
    base = override(RunConfig(), ["loop.evaluate_every=2"])
    assert sweep(base=base, scheduler=Asha(metric="eval_epm_q")).base == base


@pytest.mark.parametrize(
    ("make", "complaint"),
    [
        (lambda: Random(0), "num_cells must be >= 1, got 0"),
        (lambda: Optuna(4, round_size=0), "round_size must be >= 1, got 0"),
        (lambda: Asha(grace_steps=0), "grace_steps must be >= 1, got 0"),
        (lambda: Asha(reduction=1), "reduction must be > 1, got 1"),
        (lambda: Pbt(every_steps=0), "every_steps must be >= 1, got 0"),
        (lambda: SweepBudget(hours=0), "hours must be > 0, got 0"),
        (lambda: Span(1, 1), "low must be < high"),
        (lambda: Dimension.read("credit.alpha+seed", Span(0, 1)), "joins keys, got a Span"),
        (lambda: Span(0, 1, log=True), "low must be > 0 when log=True"),
    ],
)
def test_bad_part_of_a_sweep_is_refused_by_name(make: type[Grid], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        make()


def test_span_is_walked_by_differences_or_by_orders_of_magnitude() -> None:
    assert Span(0, 4).at(0.25) == 1
    # In log space, 1e-2 is halfway between 1e-4 and 1.
    assert Span(1e-4, 1, log=True).at(0.5) == pytest.approx(1e-2)
