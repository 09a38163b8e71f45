"""An RLlib env runner that samples whole dialogues, N of each scenario.

RLlib's own runner stops at the first M finished episodes, which favours short ones, and cannot choose the
scenario. Credit over groups needs both.
"""

from __future__ import annotations

from typing import Any, cast

import numpy as np
from gymnasium.vector import SyncVectorEnv
from ray.rllib.algorithms.algorithm_config import AlgorithmConfig
from ray.rllib.env.single_agent_env_runner import SingleAgentEnvRunner
from ray.rllib.env.single_agent_episode import SingleAgentEpisode

from mica_ray.rllib.strategy_env import StrategyEnv
from mica_ray.seeding import derive_seed


class WholeDialogues(SingleAgentEnvRunner):
    """Env runner that plays one whole dialogue in every sub-environment per call.

    Each scenario is played in `env_config["group_size"]` sub-environments. Scenarios come in rounds shuffled
    by the config's seed, so that all occur equally often. Sub-environments run until all have finished their
    dialogue; dialogues that others start meanwhile are dropped and enter no metric.

    Raises:
        ValueError: the group size does not divide the number of sub-environments.
    """

    def __init__(self, *, config: AlgorithmConfig, **kwargs: Any) -> None:
        super().__init__(config=config, **kwargs)
        group_size = int(config.env_config["group_size"])
        if group_size < 1 or self.num_envs % group_size:
            raise ValueError(f"group_size must divide the {self.num_envs} environments, got {group_size}.")
        self._group_size = group_size
        self._waiting: list[int] = []
        self._generator = np.random.default_rng(derive_seed(config.seed or 0, "scenarios", self.worker_index))

    def sample(
        self,
        *,
        num_timesteps: int | None = None,
        num_episodes: int | None = None,
        explore: bool | None = None,
        random_actions: bool = False,
        force_reset: bool = False,
    ) -> list[SingleAgentEpisode]:
        """Sample one whole dialogue from every sub-environment.

        Args:
            num_timesteps: ignored; every call returns one dialogue per sub-environment, of any length.
            num_episodes: ignored.
            explore: whether to sample actions from the policy; None: the config's default.
            random_actions: whether to sample actions uniformly, without the policy.
            force_reset: ignored; every call resets all sub-environments.
        """
        assert self.env is not None
        environments = cast(SyncVectorEnv, self.env.unwrapped)
        first = cast(StrategyEnv, environments.envs[0].unwrapped)
        environments.set_attr("upcoming", self._next_scenarios(len(first.scenarios)))
        episodes = super().sample(
            # Enough for every first dialogue to end: none is longer than the turn limit.
            num_timesteps=first.max_turns * self.num_envs,
            explore=cast(bool, explore),  # RLlib's own default is None.
            random_actions=random_actions,
            force_reset=True,
        )
        asked = [episode for episode in episodes if episode.get_infos(0)["is_asked"]]
        assert len(asked) == self.num_envs and all(episode.is_done for episode in asked)
        self._done_episodes_for_metrics = list(asked)
        return asked

    def _next_scenarios(self, num_scenarios: int) -> list[int]:
        """Return the scenario of every sub-environment, and remove them from the round."""
        num_groups = self.num_envs // self._group_size
        while len(self._waiting) < num_groups:
            self._waiting += self._generator.permutation(num_scenarios).tolist()
        chosen, self._waiting = self._waiting[:num_groups], self._waiting[num_groups:]
        return [index for index in chosen for _ in range(self._group_size)]
