"""The SAGE world: one emotion value, its stop rules, its profiles; reward is the change of the value."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mica_ray.chat.model import ChatReply, JsonSchema
from mica_ray.dialogue.actor import Actor
from mica_ray.dialogue.environment import DialogueEnvironment
from mica_ray.dialogue.judger import Judger
from mica_ray.dialogue.play import DialogueStart, TextPolicy, play_dialogue
from mica_ray.dialogue.progress import judge_stop
from mica_ray.domains.loader import ScenarioError, load_scenarios
from mica_ray.domains.sage import EMOTION, SAGE
from mica_ray.evaluation.emotion_score import EmotionScore
from mica_ray.evaluation.rescored_files import rescore
from mica_ray.files import read_json_lines
from mica_ray.recordings.transcript import transcript
from mica_ray.rewards import Rewards
from mica_ray.types import Message, Sampling, Scenario, Stop, Trajectory

PROFILE = {"id": "p1", "player": "Ann, 30.", "scene": "Lost a job.", "task": "be heard", "first_talk": "Hm."}


@dataclass
class Feelings:
    """Plays the user and tells the changes one after the other."""

    changes: Sequence[object]
    told: int = 0

    async def chat(
        self, messages: Sequence[Message], sampling: Sampling, schema: JsonSchema | None = None
    ) -> ChatReply:
        if schema is None:
            return ChatReply("Go on.", "feelings")
        change = self.changes[min(self.told, len(self.changes) - 1)]
        self.told += 1
        return ChatReply(json.dumps({"feeling": "f", "aim": "a", "change": change}), "feelings")


async def play(tmp_path: Path, *changes: object) -> Trajectory:
    path = tmp_path / "profiles.jsonl"
    path.write_text(json.dumps(PROFILE))
    (scenario,) = load_scenarios(path, SAGE.name)
    model, sampling = Feelings(changes), Sampling()
    environment = DialogueEnvironment(
        scenario, SAGE, actor=Actor(model, SAGE, sampling), judge=Judger(model, SAGE, sampling)
    )
    policy = TextPolicy(Feelings(()))
    prompt = SAGE.prompts(scenario.language).policy_prompt
    return await play_dialogue(DialogueStart(scenario), environment, policy, sampling, policy_prompt=prompt)


async def test_reward_is_the_change_of_the_emotion_value(tmp_path: Path) -> None:
    trajectory = await play(tmp_path, 10, -5, 0, 3, *[10] * 5)
    turns = Rewards(kind="idr", distance="norm")([trajectory])
    # 40 + 10 - 5 + 0 + 3 = 48, and 98 after five tens: nine turns, and the limit.
    np.testing.assert_allclose(turns.rewards[0], [10, -5, 0, 3, 10, 10, 10, 10, 10], atol=1e-9)
    assert turns.valid.all() and trajectory.stop is Stop.LIMIT


async def test_dialogue_ends_at_100_and_the_last_move_is_cut_there(tmp_path: Path) -> None:
    trajectory = await play(tmp_path, 8)  # 40, 48, ..., 96, 100
    assert (trajectory.stop, len(trajectory.turns)) == (Stop.SUCCESS, 8)
    assert trajectory.turns[-1].judgement.delta == (0.0, 4.0, 0.0)


async def test_user_leaves_below_10_and_not_at_10(tmp_path: Path) -> None:
    trajectory = await play(tmp_path, -10, -10, -10, 0, -1)  # 10 after three turns, 9 after five
    assert (trajectory.stop, len(trajectory.turns)) == (Stop.COLLAPSE, 5)
    assert EMOTION.value(trajectory.turns[-1].state_after) == 9


async def test_falls_in_a_row_end_nothing_by_themselves(tmp_path: Path) -> None:
    assert (await play(tmp_path, -1)).stop is Stop.LIMIT


@pytest.mark.parametrize("change", [11, -11, 2.5, True, None, "4"])
async def test_change_off_the_scale_is_a_failed_judgement_and_moves_nothing(
    tmp_path: Path, change: object
) -> None:
    trajectory = await play(tmp_path, change)
    assert not any(turn.judgement.is_valid for turn in trajectory.turns)
    assert trajectory.states[-1].tolist() == [0, -60, 0]
    assert "change must be a whole number from -10 to 10" in str(trajectory.turns[0].judgement.error)


async def test_own_dialogues_are_scored_by_their_emotion(tmp_path: Path) -> None:
    trajectory = await play(tmp_path, 10)
    path = tmp_path / "dialogues.jsonl"
    path.write_text(json.dumps(transcript(trajectory)))
    (item,) = rescore([path], seed=0)
    assert isinstance(item.score, EmotionScore)
    assert (item.score.final_emotion.estimate, item.score.successes) == (100, 1)


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 100), st.lists(st.integers(-10, 10), min_size=1, max_size=12))
def test_value_stays_on_its_scale_and_levels_tell_the_direction(start: int, changes: list[int]) -> None:
    state = EMOTION.state(start)
    for change in changes:
        judgement = EMOTION.moved(state, change)
        assert judgement.delta is not None and judgement.progress and judgement.regress
        state = (0.0, state[1] + judgement.delta[1], 0.0)
        assert 0 <= EMOTION.value(state) <= 100
        assert np.sign(judgement.progress[1] + judgement.regress[1]) == np.sign(change)


@pytest.mark.parametrize(
    ("changed", "problem"),
    [
        ({"task": None}, "field 'task' of the profile must be a text"),
        ({"id": " "}, "field 'id' of the profile must be a text"),
    ],
)
def test_wrong_profile_is_one_line(tmp_path: Path, changed: dict[str, object], problem: str) -> None:
    path = tmp_path / "profiles.jsonl"
    path.write_text(json.dumps(PROFILE | changed))
    with pytest.raises(ScenarioError, match=problem) as caught:
        load_scenarios(path, SAGE.name)
    assert str(caught.value).startswith(f"{path}, line 1: ")


def test_profile_that_lacks_a_field_and_one_that_comes_twice_are_named(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(json.dumps({"player": "x", "scene": "y"}))
    with pytest.raises(ScenarioError, match="field 'id' of the profile is missing"):
        load_scenarios(path, SAGE.name)
    path.write_text(json.dumps(PROFILE))
    (tmp_path / "b.jsonl").write_text(json.dumps(PROFILE))
    with pytest.raises(ScenarioError, match=r"b.jsonl, line 1: .* 'p1' is already in .*a.jsonl, line 1"):
        load_scenarios(tmp_path, SAGE.name)


@pytest.fixture(scope="module")
def benchmark_data() -> Path:
    folder = Path(os.environ.get("MICA_DATA", Path(__file__).parents[3] / "shared" / "data"))
    if not (folder / "rlver").is_dir():
        pytest.skip(f"no profiles in {folder}: set MICA_DATA")
    return folder


def test_benchmark_profiles_are_test_scenarios_and_never_training(
    benchmark_data: Path, tmp_path: Path
) -> None:
    def ids(scenarios: Sequence[Scenario], split: str) -> set[str]:
        return {scenario.id for scenario in scenarios if scenario.split == split}

    both = load_scenarios(benchmark_data / "rlver", SAGE.name)
    sage = load_scenarios(benchmark_data / "sage", SAGE.name)
    assert (len(ids(both, "train")), len(ids(both, "test"))) == (500, 100)
    assert ids(sage, "test") == ids(both, "test") and not ids(sage, "train")
    # Under another id, and among the training profiles, they are known by their scene.
    renamed = tmp_path / "train_profile.jsonl"
    lines = read_json_lines(benchmark_data / "rlver" / "test_profile.jsonl")
    renamed.write_text("\n".join(json.dumps({**line.fields, "id": f"new-{line.number}"}) for line in lines))
    assert not ids(load_scenarios(renamed, SAGE.name), "train")


def test_recorded_dialogues_end_by_our_rules(benchmark_data: Path) -> None:
    for path in sorted((benchmark_data / "sage" / "dialogues").glob("*.jsonl")):
        for line in read_json_lines(path):
            history = line.fields["history"]
            assert isinstance(history, list)
            values = [message["emotion-point"] for message in history if message["role"] == "user"]
            states = np.array([EMOTION.state(value) for value in values])
            stops = [judge_stop(states[: turns + 1], SAGE.rules) for turns in range(1, len(values))]
            assert stops[:-1] == [None] * (len(stops) - 1) and stops[-1] is not None
            last = {100: Stop.SUCCESS}.get(values[-1], Stop.COLLAPSE if values[-1] < 10 else Stop.LIMIT)
            assert stops[-1] is last
