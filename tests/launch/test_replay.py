"""Replays of recorded runs and evaluations are bit-identical, without any endpoint."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mica_ray.cli import main
from mica_ray.runs.folder import RunFolder
from tests.launch import trained_run
from tests.launch.scripted_endpoint import scripted_endpoint
from tests.small_policy import small_folder

KEY = "REPLAY_TEST_KEY"
TINY = (
    "loop.num_steps=1", "loop.scenarios_per_step=2", "learner.mini_batches=1", "loop.track_policy=false",
    "rollout.group_size=2", "rollout.sampling.max_tokens=6", "rollout.context_length=512",
    "evaluation.max_scenarios=1", "loop.evaluate_every=1", "seed=3",
)  # fmt: skip


def role_of(recording: Path, url: str | None) -> str:
    """Return the config value of a role: recorded from an endpoint, or replayed from the file."""
    if url is None:
        return json.dumps({"recording": str(recording), "mode": "replay"})
    inner = {
        "model": "scripted",
        "base_url": url,
        "api_key_env": KEY,
        "attempts": 3,
        "first_pause_seconds": 0.01,
    }
    return json.dumps({"recording": str(recording), "mode": "record", "inner": inner})


def train(path: Path, policy: Path, role: str) -> tuple[RunFolder, list[dict[str, float]]]:
    """Train one step and evaluate after it; the metrics are those that do not depend on time."""
    roles = [f"roles.{name}={role}" for name in ("actor", "director", "judge")]
    roles.append("roles.shows_needs=true")  # The scripted roles behind the endpoint compute with them.
    folder, steps = trained_run.train(path, [*TINY, f"policy={policy}", *roles])
    timeless = [{name: value for name, value in metrics.items() if "second" not in name} for metrics in steps]
    return folder, timeless


@pytest.mark.slow
def test_training_is_replayed_bit_for_bit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(KEY, "any")
    policy = small_folder(tmp_path / "small", tied=True)
    calls = tmp_path / "calls.jsonl"
    with scripted_endpoint(is_faulty=True, seed=1) as endpoint:
        recorded, metrics = train(tmp_path / "recorded", policy, role_of(calls, endpoint.url))
        asked = endpoint.requests
    content = calls.read_bytes()
    replayed, metrics_again = train(tmp_path / "replayed", policy, role_of(calls, None))
    assert endpoint.requests == asked and calls.read_bytes() == content  # no new requests

    dialogues = recorded.dialogues.read_bytes()
    assert replayed.dialogues.read_bytes() == dialogues  # includes rewards and advantages
    statuses = {turn["status"] for line in dialogues.splitlines() for turn in json.loads(line)["turns"]}
    assert {"ok", "repaired"} <= statuses
    assert metrics == metrics_again
    weights = sorted(recorded.path.glob("checkpoints/*/learner/policy/*.safetensors"))
    assert weights
    for path in weights:
        assert (replayed.path / path.relative_to(recorded.path)).read_bytes() == path.read_bytes()


def test_evaluation_is_replayed_bit_for_bit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(KEY, "any")

    def evaluate(out: Path, role: str, policy: str) -> bytes:
        with pytest.raises(SystemExit) as caught:
            main(
                (
                    "evaluate", "empa", "--domain", "mica_ray.domains.emotional_support:EMOTIONAL_SUPPORT",
                    "--policy", policy, "--judge", role, "--cases", "6", "--out", str(out),
                    "--set", "roles.shows_needs=true",
                )
            )  # fmt: skip
        assert caught.value.code == 0
        return b"".join(sorted((out / "dialogues.jsonl").read_bytes().splitlines(keepends=True)))

    calls = tmp_path / "calls.jsonl"
    listener = "tests.evaluation.listeners:WarmListener"
    with scripted_endpoint(is_faulty=False, seed=2) as endpoint:
        recorded = evaluate(tmp_path / "recorded", role_of(calls, endpoint.url), listener)
    assert evaluate(tmp_path / "replayed", role_of(calls, None), listener) == recorded
