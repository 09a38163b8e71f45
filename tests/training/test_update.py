"""The schedule and the config of an update, by hand."""

from __future__ import annotations

import pytest

from mica_ray.training.update import LearnerConfig, learning_rate_at


def test_rate_rises_over_the_warm_up_and_falls_along_the_cosine() -> None:
    config = LearnerConfig(learning_rate=1.0, warmup_fraction=0.2, total_updates=10)
    # W = 2: 1/2, 1; then (1 + cos(pi (u - 2) / 8)) / 2 is 1 at u = 2, 1/2 at u = 6, 0 from u = 10 on.
    rates = [learning_rate_at(config, update) for update in (0, 1, 2, 6, 10, 15)]
    assert rates == pytest.approx([0.5, 1.0, 1.0, 0.5, 0.0, 0.0])


def test_constant_rate_only_warms_up() -> None:
    config = LearnerConfig(learning_rate=2.0, schedule="constant", warmup_fraction=0.5, total_updates=4)
    assert [learning_rate_at(config, update) for update in range(5)] == [1.0, 2.0, 2.0, 2.0, 2.0]


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("learning_rate", 0.0, r"learning_rate must be > 0, got 0\.0"),
        ("mini_batches", 0, "mini_batches must be >= 1, got 0"),
        ("schedule", "linear", "schedule must be 'cosine' or 'constant', got 'linear'"),
        ("dtype", "float16", "dtype must be 'float32' or 'bfloat16', got 'float16'"),
        ("warmup_fraction", 1.5, r"warmup_fraction must be in \[0, 1\], got 1\.5"),
    ],
)
def test_impossible_config_is_refused_with_field_value_and_remedy(
    field: str, value: object, words: str
) -> None:
    with pytest.raises(ValueError, match=words):
        LearnerConfig(**{field: value})  # type: ignore[arg-type]
