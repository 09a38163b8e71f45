"""RLlib's learner trains on our credit: turns, groups, and no artificial step."""

from __future__ import annotations

from collections import Counter
from typing import SupportsFloat

import numpy as np
import pytest
import torch
from ray.rllib.connectors.learner import AddOneTsToEpisodesAndTruncate, GeneralAdvantageEstimation
from ray.rllib.core import DEFAULT_MODULE_ID
from ray.rllib.env.single_agent_episode import SingleAgentEpisode

from mica_ray.credit import CreditEstimator, Mica
from mica_ray.domains.emotional_support import EMOTIONAL_SUPPORT
from mica_ray.rllib.ppo import CreditLearner, StrategyRun, TurnCredit, turn_rewards
from mica_ray.rllib.whole_dialogues import WholeDialogues


def dialogue(scenario: str, rewards: list[float]) -> SingleAgentEpisode:
    length = len(rewards)
    return SingleAgentEpisode(
        observations=[np.array([turn, 1.0], np.float32) for turn in range(length + 1)],
        actions=[0] * length,
        rewards=list[SupportsFloat](rewards),
        infos=[{"scenario": scenario}] * (length + 1),
        terminated=True,
        len_lookback_buffer=0,
    ).to_numpy()


def lengthened(*dialogues: SingleAgentEpisode) -> list[SingleAgentEpisode]:
    """Add the artificial last step of reward 0, as RLlib's learner does."""
    AddOneTsToEpisodesAndTruncate()(rl_module=None, batch={}, episodes=list(dialogues), shared_data={})  # pyright: ignore[reportArgumentType]
    return list(dialogues)


def test_artificial_step_is_no_turn() -> None:
    turns = turn_rewards(lengthened(dialogue("b", [0.0, 2.0]), dialogue("a", [1.0]), dialogue("b", [3.0])))
    np.testing.assert_array_equal(turns.rewards, [[0, 2], [1, 0], [3, 0]])
    np.testing.assert_array_equal(turns.valid, [[True, True], [True, False], [True, False]])
    assert turns.group[0] == turns.group[2] != turns.group[1]
    assert turns.states is not None
    np.testing.assert_array_equal(turns.states[0], [[0, 1], [1, 1]])


def test_piece_of_a_dialogue_gets_no_credit() -> None:
    piece = dialogue("a", [0.0, 1.0])
    piece.is_terminated = False
    with pytest.raises(
        ValueError, match=r"Credit needs whole dialogues, got .* starts at turn 0 and does not end"
    ):
        turn_rewards(lengthened(piece))


def test_credit_crosses_turns_on_its_way_into_the_batch() -> None:
    # One of two dialogues is rewarded at its second turn: returns [1, 1] and [0, 0], z = +1 and -1 at both
    # turns. The artificial steps, third and sixth, get 0.
    episodes = lengthened(dialogue("a", [0.0, 1.0]), dialogue("a", [0.0, 0.0]))
    batch = {DEFAULT_MODULE_ID: {"loss_mask": torch.ones(6, dtype=torch.bool)}}
    credit = TurnCredit(credit=Mica(alpha=1.0, gamma=1.0))
    module = credit(rl_module=None, batch=batch, episodes=episodes)[DEFAULT_MODULE_ID]
    np.testing.assert_allclose(module["advantages"].numpy(), [1, 1, 0, -1, -1, 0], atol=1e-5)
    assert not module["value_targets"].any()


def small_run(credit: CreditEstimator | None = None, *, num_groups: int = 6) -> StrategyRun:
    return StrategyRun(
        EMOTIONAL_SUPPORT, credit=credit, num_groups=num_groups, group_size=4, num_epochs=4, minibatch_size=24
    )


def test_batch_holds_whole_dialogues_of_every_scenario_equally_often() -> None:
    # 36 scenarios, 6 groups a batch: every scenario comes once in six batches.
    runner = WholeDialogues(config=small_run().config())
    counted = Counter[str]()
    for _ in range(6):
        episodes = runner.sample(random_actions=True)
        in_batch = Counter(str(episode.get_infos(0)["scenario"]) for episode in episodes)
        assert all(episode.is_done for episode in episodes)
        assert set(in_batch.values()) == {4}
        counted += in_batch
    assert len(counted) == 36
    assert set(counted.values()) == {4}


def test_groups_must_fill_the_environments() -> None:
    config = small_run().config()
    config.environment(env_config={"group_size": 5})
    with pytest.raises(ValueError, match=r"group_size must divide the 24 environments, got 5"):
        WholeDialogues(config=config)


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.usefixtures("ray_cluster")
@pytest.mark.parametrize("credit", [None, Mica()], ids=["gae", "mica"])
def test_ppo_learns_with_either_credit(credit: CreditEstimator | None) -> None:
    algorithm = small_run(credit, num_groups=12).config().build_algo()
    try:
        returns = [algorithm.train()["env_runners"]["episode_return_mean"] for _ in range(6)]
        assert algorithm.learner_group is not None
        learner = algorithm.learner_group._learner
        assert learner is not None and learner._learner_connector is not None
        pieces = {type(piece) for piece in learner._learner_connector.connectors}
        assert isinstance(learner, CreditLearner) == (credit is not None)
        assert (TurnCredit in pieces, GeneralAdvantageEstimation in pieces) == (
            credit is not None,
            credit is None,
        )
    finally:
        algorithm.stop()
    # Even choices lose about 9 points a dialogue; the first updates win back most of it.
    assert returns[-1] > returns[0] + 4
