"""The strategy environment follows the embedded world's rules and passes both checkers."""

from __future__ import annotations

import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from hypothesis import given, settings
from hypothesis import strategies as st

from mica_ray.domains.emotional_support import EMOTIONAL_SUPPORT
from mica_ray.embedded.reply_reader import Kind
from mica_ray.embedded.world import replay, start
from mica_ray.rewards import Rewards, zone_distance
from mica_ray.rllib.strategy_env import KINDS, POINTS, StrategyEnv

BOSS = "es-work-c-01"
"""Starts at C -7, A -4, P -3; needs open in the order A, C, P."""


def strategy_env(*, specific_fraction: float = 1.0) -> StrategyEnv:
    return StrategyEnv(EMOTIONAL_SUPPORT, specific_fraction=specific_fraction)


def action(kind: Kind) -> int:
    return KINDS.index(kind)


@pytest.mark.filterwarnings("ignore:.*Not able to test alternative render modes.*")
def test_gymnasium_takes_it_for_an_environment() -> None:
    check_env(strategy_env(specific_fraction=0.5))


def test_rllib_takes_it_for_an_environment() -> None:
    # RLlib checks environments of several agents; its own wrapper makes two of one.
    from ray.rllib.env.multi_agent_env import make_multi_agent
    from ray.rllib.utils.pre_checks.env import check_multiagent_environments

    two_of_one = make_multi_agent(lambda _: strategy_env())
    check_multiagent_environments(two_of_one({"num_agents": 2}))  # pyright: ignore[reportCallIssue]


def test_acknowledging_first_meets_the_first_need() -> None:
    environment = strategy_env()
    seen, info = environment.reset(options={"scenario": BOSS})
    assert info == {"scenario": BOSS, "is_asked": True}
    np.testing.assert_allclose(seen[:6], [-0.7, -0.4, -0.3, 0, 0, 0], atol=1e-6)
    np.testing.assert_array_equal(seen[6:9], [1, 0, 1])  # Only A is open.
    seen, reward, *_ = environment.step(action(Kind.ACKNOWLEDGE))
    # A: -4 + 3 = -1. Zone distance, 1 point forgiven per axis: |(6, 3, 2)| = 7 -> |(6, 0, 2)| = sqrt(40).
    assert reward == pytest.approx(7 - 40**0.5)
    # E = (0, 3, 0) . (7, 4, 3) / sqrt(74) = 12 / sqrt(74); as a share of ||P_0||: 12 / 74.
    np.testing.assert_allclose(seen[:6], [-0.7, -0.1, -0.3, 1 / 12, 12 / 74, 0], atol=1e-6)
    np.testing.assert_array_equal(seen[6:9], [0, 0, 1])  # C is open now, P waits for C.


def test_step_offered_too_early_hurts_and_leaves_the_person_guarded() -> None:
    environment = strategy_env()
    environment.reset(options={"scenario": BOSS})
    seen, reward, *_ = environment.step(action(Kind.STEP))
    # Level -1 on P and on A, the first need: -2 each. |(6, 3, 2)| = 7 -> |(6, 5, 4)| = sqrt(77).
    assert reward == pytest.approx(7 - 77**0.5)
    assert seen[5] == 0.5  # one of two grades of guard


def test_reply_that_takes_up_nothing_of_this_person_earns_the_lower_level() -> None:
    environment = strategy_env(specific_fraction=0.0)
    environment.reset(options={"scenario": BOSS})
    seen, *_ = environment.step(action(Kind.ACKNOWLEDGE))
    assert seen[1] == pytest.approx(-0.3)  # level 1: one point


def test_choices_move_the_person_as_the_same_replies_in_words_do() -> None:
    heard = "I am so confused about the new boss. She hardly talks to me and it makes me nervous all day."
    replies = {
        Kind.ACKNOWLEDGE: "No wonder you are nervous when the new boss will not talk to you.",
        Kind.REFRAME: "Another way to see it is that the new boss matters because you care.",
        Kind.STEP: "One small step could be to write down one line about the new boss.",
    }
    environment = strategy_env()
    environment.reset(options={"scenario": BOSS})
    felt = replay(start((-7.0, -4.0, -3.0), (1, 0, 2)), [(heard, reply) for reply in replies.values()])
    for kind, said in zip(replies, felt, strict=True):
        seen, *_ = environment.step(action(kind))
        np.testing.assert_allclose(seen[:3] * POINTS, said.after.state, atol=1e-5)


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 2**31 - 1), st.lists(st.integers(0, len(KINDS) - 1), min_size=12, max_size=12))
def test_every_dialogue_ends_in_time_and_its_rewards_telescope(seed: int, actions: list[int]) -> None:
    environment = strategy_env(specific_fraction=0.5)
    first, _ = environment.reset(seed=seed)
    rewards: list[float] = []
    for chosen in actions:
        seen, reward, is_over, is_cut, info = environment.step(chosen)
        rewards.append(reward)
        assert environment.observation_space.contains(seen)
        assert not is_cut
        assert is_over == ("stop" in info)
        if is_over:
            break
    else:
        pytest.fail("twelve turns are the limit")
    # IDR: sum of rewards = D_0 - D_T; float32 observations keep about six digits.
    distance = zone_distance(np.array([first[:3], seen[:3]], dtype=np.float64) * POINTS)
    assert sum(rewards) == pytest.approx(distance[0] - distance[1], abs=1e-4)


def test_other_rewards_may_be_asked_for() -> None:
    environment = StrategyEnv(EMOTIONAL_SUPPORT, rewards=Rewards(kind="sum"), specific_fraction=1.0)
    environment.reset(options={"scenario": BOSS})
    assert environment.step(action(Kind.ACKNOWLEDGE))[1] == 3.0


def test_upcoming_scenario_is_opened_once() -> None:
    environment = strategy_env()
    environment.upcoming = 3
    _, info = environment.reset(seed=0)
    assert info == {"scenario": environment.scenarios[3].id, "is_asked": True}
    assert environment.reset()[1]["is_asked"] is False


def test_unknown_scenario_and_impossible_share_are_named() -> None:
    with pytest.raises(
        ValueError, match=r"options\['scenario'\] must be one of es-work-c-01, .*, got 'nobody'"
    ):
        strategy_env().reset(options={"scenario": "nobody"})
    with pytest.raises(ValueError, match=r"specific_fraction must be in \[0, 1\], got 2"):
        strategy_env(specific_fraction=2)
