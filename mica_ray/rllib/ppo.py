"""RLlib's PPO on the strategy environment, with its own critic and GAE or with our credit.

Both use the same learner and dialogues; only the connector that computes the advantages differs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from ray.rllib.algorithms.ppo import PPOConfig
from ray.rllib.algorithms.ppo.torch.ppo_torch_learner import PPOTorchLearner
from ray.rllib.connectors.connector_v2 import ConnectorV2
from ray.rllib.connectors.learner import GeneralAdvantageEstimation
from ray.rllib.core import DEFAULT_MODULE_ID
from ray.rllib.core.columns import Columns
from ray.rllib.core.rl_module.default_model_config import DefaultModelConfig
from ray.rllib.env.single_agent_episode import SingleAgentEpisode
from ray.rllib.evaluation.postprocessing import Postprocessing
from ray.tune.registry import register_env

from mica_ray.checks import at_least
from mica_ray.credit import CreditEstimator
from mica_ray.dialogue.domain import Domain
from mica_ray.rllib.strategy_env import SPECIFIC_FRACTION, StrategyEnv
from mica_ray.rllib.whole_dialogues import WholeDialogues
from mica_ray.types import TurnRewards


def turn_rewards(episodes: Sequence[SingleAgentEpisode]) -> TurnRewards:
    """Convert the episodes of an RLlib learner to the input of a credit estimator.

    Dialogues of one scenario form a group, and observations are the states. The artificial last step that
    RLlib adds to each episode is not valid.

    Args:
        episodes: B whole dialogues, after `AddOneTsToEpisodesAndTruncate`.

    Raises:
        ValueError: an episode is only a part of a dialogue, so the returns of its turns are unknown.
    """
    for episode in episodes:
        if episode.t_started or not episode.is_terminated:
            raise ValueError(
                f"Credit needs whole dialogues, got episode {episode.id_}, which starts at turn "
                f"{episode.t_started} and {'ends' if episode.is_terminated else 'does not end'}. "
                "Sample with the env runner WholeDialogues."
            )
    played = np.array([len(episode) - 1 for episode in episodes])
    num_turns = int(played.max(initial=0))
    rewards = np.zeros((len(episodes), num_turns))
    states: np.ndarray | None = None
    for row, (episode, length) in enumerate(zip(episodes, played, strict=True)):
        rewards[row, :length] = episode.get_rewards(slice(0, length))
        seen = np.asarray(episode.get_observations(slice(0, length)), dtype=np.float64)
        states = np.zeros((*rewards.shape, seen.shape[1])) if states is None else states
        states[row, :length] = seen
    scenarios = [str(episode.get_infos(0)["scenario"]) for episode in episodes]
    group = np.unique(scenarios, return_inverse=True)[1]
    return TurnRewards(rewards, np.arange(num_turns) < played[:, None], group, states)


class TurnCredit(ConnectorV2):
    """Connector that replaces GAE's advantages by those of a credit estimator.

    Writes one advantage per step of the batch, 0 at artificial steps, which the loss masks. Value targets are
    0, since there is no critic.
    """

    def __init__(
        self, input_observation_space: Any = None, input_action_space: Any = None, *, credit: CreditEstimator
    ) -> None:
        super().__init__(input_observation_space, input_action_space)
        self._credit = credit

    def __call__(
        self, *, rl_module: Any, batch: dict[str, Any], episodes: list[Any], **kwargs: Any
    ) -> dict[str, Any]:
        """Add `advantages` and `value_targets` to the batch of the one module.

        Raises:
            ValueError: an episode is not a whole dialogue, or the module is recurrent, with a padded batch.
        """
        listed = list(self.single_agent_episode_iterator(episodes, agents_that_stepped_only=False))
        turns = turn_rewards(listed)
        columns = np.arange(turns.valid.shape[1] + 1)
        in_batch = columns < np.array([len(episode) for episode in listed])[:, None]
        advantages = np.pad(self._credit(turns), ((0, 0), (0, 1)))[in_batch]
        module = batch[DEFAULT_MODULE_ID]
        mask = module[Columns.LOSS_MASK]
        if tuple(mask.shape) != advantages.shape:
            raise ValueError(
                f"The batch must have one row per step, {advantages.shape}, got {tuple(mask.shape)}. "
                "Use a module without memory."
            )
        written = torch.from_numpy(advantages.astype(np.float32)).to(mask.device)
        module[Postprocessing.ADVANTAGES] = written
        module[Postprocessing.VALUE_TARGETS] = torch.zeros_like(written)
        return batch


class CreditLearner(PPOTorchLearner):
    """RLlib's PPO learner with the estimator `learner_config_dict["credit"]` instead of GAE."""

    def build(self) -> None:
        """Build RLlib's learner, then replace its GAE connector."""
        super().build()
        assert self._learner_connector is not None
        self._learner_connector.remove(GeneralAdvantageEstimation)
        self._learner_connector.append(TurnCredit(credit=self.config.learner_config_dict["credit"]))


@dataclass(frozen=True, slots=True)
class StrategyRun:
    """One run of PPO on the strategy environment, with the same optimizer for any credit."""

    domain: Domain
    credit: CreditEstimator | None = None
    """Estimator that replaces critic and GAE; None: RLlib's PPO unchanged."""
    num_groups: int = 16
    """Scenarios per batch. Each batch is one update."""
    group_size: int = 8
    """N, dialogues per scenario."""
    specific_fraction: float = SPECIFIC_FRACTION
    """`StrategyEnv`'s probability of a specific reply, in [0, 1]."""
    gamma: float = 0.99
    """Discount of GAE, RLlib's default. A credit estimator has its own."""
    gae_lambda: float = 1.0
    """Lambda of GAE, RLlib's default."""
    learning_rate: float = 1e-3
    """Adam's step size."""
    num_epochs: int = 6
    """Passes over each batch."""
    minibatch_size: int = 128
    """Turns per minibatch; at most the number of dialogues, since each may have a single turn."""
    seed: int = 0
    """Seed of scenarios, wording, weights and actions."""

    def __post_init__(self) -> None:
        """Check the counts."""
        at_least(1, num_groups=self.num_groups, group_size=self.group_size)
        at_least(1, num_epochs=self.num_epochs, minibatch_size=self.minibatch_size)
        if self.minibatch_size > self.num_dialogues:
            raise ValueError(
                f"minibatch_size must be <= num_groups x group_size = {self.num_dialogues}, "
                f"got {self.minibatch_size}."
            )

    @property
    def num_dialogues(self) -> int:
        """Number of dialogues of one batch."""
        return self.num_groups * self.group_size

    def config(self) -> PPOConfig:
        """Build RLlib's configuration: runner and learner in this process, one update per batch."""
        register_env("strategy", _environment)
        config = PPOConfig()
        config.environment(
            "strategy",
            env_config={
                "domain": self.domain,
                "specific_fraction": self.specific_fraction,
                "group_size": self.group_size,
            },
        )
        config.env_runners(
            env_runner_cls=WholeDialogues,
            num_env_runners=0,
            num_envs_per_env_runner=self.num_dialogues,
            batch_mode="complete_episodes",
        )
        config.learners(num_learners=0)
        config.rl_module(model_config=DefaultModelConfig(fcnet_hiddens=[64, 64]))
        config.training(
            gamma=self.gamma,
            lambda_=self.gae_lambda,
            lr=self.learning_rate,
            num_epochs=self.num_epochs,
            minibatch_size=self.minibatch_size,
            # One call of the runner fills it at any lengths: every dialogue has at least one turn.
            train_batch_size_per_learner=self.num_dialogues,
            # Points squared. With RLlib's 10, a critic that is off by more than 3 points would not learn.
            vf_clip_param=1e4,
        )
        if self.credit is not None:
            config.training(
                learner_class=CreditLearner, learner_config_dict={"credit": self.credit}, use_critic=False
            )
        config.reporting(metrics_num_episodes_for_smoothing=self.num_dialogues)
        config.debugging(seed=self.seed, log_level="ERROR")
        return config


def _environment(context: Mapping[str, Any]) -> StrategyEnv:
    return StrategyEnv(context["domain"], specific_fraction=context["specific_fraction"])
