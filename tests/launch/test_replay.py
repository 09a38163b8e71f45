"""Replays of recorded runs and evaluations are bit-identical, without any endpoint."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from pathlib import Path

import pytest

from mica_ray.cli import main
from mica_ray.config import RunConfig
from mica_ray.config.overrides import override
from mica_ray.launch import run
from mica_ray.launch.assembly import assemble
from mica_ray.runs.folder import RunFolder
from mica_ray.tracking.tracker import Ending
from mica_ray.training import loop
from mica_ray.training.checkpoint import Checkpoints
from mica_ray.training.progress import SilentProgress
from mica_ray.training.scenario_order import ScenarioOrder
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


class Metrics:
    """A tracker that keeps the metrics that do not depend on time."""

    def __init__(self) -> None:
        self.steps: list[dict[str, float]] = []

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        self.steps.append({name: value for name, value in metrics.items() if "second" not in name})

    def artifact(self, path: Path) -> None:
        pass

    def close(self, ending: Ending = "finished") -> None:
        pass


def train(path: Path, policy: Path, role: str) -> tuple[RunFolder, list[dict[str, float]]]:
    """Train one step in this process, and evaluate after it."""
    roles = [f"roles.{name}={role}" for name in ("actor", "director", "judge")]
    roles.append("roles.shows_needs=true")  # The scripted roles behind the endpoint compute with them.
    config = override(RunConfig(), [*TINY, f"policy={policy}", *roles])
    folder, metrics, silent = RunFolder.create(config, path), Metrics(), SilentProgress()

    async def play() -> None:
        checked = run.check(config, inline=True)
        async with run.set_up(checked, progress=silent, folder=folder) as parts:
            order = ScenarioOrder(parts.world.scenarios("train"), config.seed, config.loop.scenarios_per_step)
            checkpoints = Checkpoints(folder.checkpoints, keep=1)
            await loop.train(
                assemble(
                    config, parts, folder, order=order, checkpoints=checkpoints, tracker=metrics,
                    progress=silent, first_step=0,
                )
            )  # fmt: skip

    asyncio.run(play())
    return folder, metrics.steps


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
