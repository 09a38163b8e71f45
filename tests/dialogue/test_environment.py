"""One dialogue: the order of a turn, every ending, and what is kept after a failure."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace

import pytest

from mica_ray.chat.model import ChatError, ChatReply, JsonSchema
from mica_ray.dialogue.actor import Actor
from mica_ray.dialogue.answer_counts import count_answers, count_early_ends, count_failures
from mica_ray.dialogue.director import Director
from mica_ray.dialogue.environment import DialogueEnvironment
from mica_ray.dialogue.judger import Judger
from mica_ray.dialogue.play import DialogueStart, TextPolicy, play_dialogue
from mica_ray.dialogue.trajectory_builder import Exchange, TrajectoryBuilder
from mica_ray.seeding import derive_seed
from mica_ray.types import Judgement, Message, RoleAnswer, Sampling, Scenario, Status, Stop, Trajectory
from tests.dialogue.tiny_domain import DOMAIN, SCENARIO, Forever, QueuedChat, judgement_json

# P_0 = (-1, -2, -2). HELP moves every axis by +1, FULL by +3, HARM by -2.
HELP = judgement_json((1, 1, 1))
FULL = judgement_json((2, 2, 2))
HARM = judgement_json(regress=(-1, -1, -1))
STILL = judgement_json()
DOWN = ChatError("tiny at nowhere: down", kind="infrastructure", endpoint="tiny")


def move(name: str, guidance: str = "", **argument: object) -> str:
    return json.dumps({"move": name, "guidance": guidance} | argument)


class Roles:
    """One queue per role, and the order in which the roles were asked."""

    def __init__(self, judge: QueuedChat, actor: QueuedChat, director: QueuedChat | None = None) -> None:
        self.queues = {"judge": judge, "actor": actor, "director": director or QueuedChat(move("continue"))}
        self.order: list[str] = []

    async def chat(
        self, messages: Sequence[Message], sampling: Sampling, schema: JsonSchema | None = None
    ) -> ChatReply:
        role = json.loads(messages[1]["content"])["role"]
        self.order.append(role)
        return await self.queues[role].chat(messages, sampling, schema)

    def environment(
        self, seed: int = 0, *, has_director: bool = True, scenario: Scenario = SCENARIO
    ) -> DialogueEnvironment:
        sampling = Sampling()
        return DialogueEnvironment(
            scenario,
            DOMAIN,
            actor=Actor(self, DOMAIN, sampling, 30),
            judge=Judger(self, DOMAIN, sampling, 30),
            director=Director(self, DOMAIN, sampling, 30) if has_director else None,
            seed=seed,
        )


async def played(roles: Roles, policy: QueuedChat | None = None, seed: int = 0) -> Trajectory:
    return await play_dialogue(
        DialogueStart(SCENARIO, seed, group=3, sample=1),
        roles.environment(),
        TextPolicy(policy or QueuedChat("I hear you.")),
        Sampling(),
        policy_prompt=DOMAIN.policy_prompt,
        reply_deadline_seconds=30,
    )


async def test_opening_is_the_scenario_s_and_costs_nothing() -> None:
    roles = Roles(QueuedChat(STILL), QueuedChat("Yes."))
    assert await roles.environment().open() == {"role": "user", "content": "The move left me lonely."}
    assert roles.order == []


async def test_turn_runs_judge_then_director_then_actor() -> None:
    roles = Roles(QueuedChat(HELP), QueuedChat("Yes."), QueuedChat(move("continue", "open up")))
    environment = roles.environment()
    await environment.open()
    exchange = await environment.respond("I hear you.")
    assert roles.order == ["judge", "director", "actor"]
    # (-1, -2, -2) + (1, 1, 1)
    assert exchange.state_after == (0.0, -1.0, -1.0)
    assert exchange.user == {"role": "user", "content": "Yes."}
    assert (exchange.stop, exchange.guidance, exchange.error) == (None, "open up", None)


async def test_only_the_director_sees_the_state_which_is_the_one_after_the_reply() -> None:
    roles = Roles(QueuedChat(HELP), QueuedChat("Yes."))
    environment = roles.environment()
    await environment.open()
    await environment.respond("I hear you.")
    seen = {role: queue.asked[0].case.get("state") for role, queue in roles.queues.items()}
    assert seen == {"judge": None, "director": {"C": 0.0, "A": -1.0, "P": -1.0}, "actor": None}
    # v* = (1, 2, 2)/3; (1, 1, 1) . v* = 5/3
    assert roles.queues["director"].asked[0].case["energy"] == pytest.approx([5 / 3])


async def test_every_role_samples_under_the_seed_of_its_turn() -> None:
    roles = Roles(QueuedChat(STILL), QueuedChat("Yes."))
    environment = roles.environment(seed=11)
    await environment.open()
    for _ in range(2):
        await environment.respond("I hear you.")
    seeds = {role: [asked.sampling.seed for asked in queue.asked] for role, queue in roles.queues.items()}
    assert seeds == {
        "judge": [derive_seed(11, "judge", turn) for turn in (0, 1)],
        "director": [derive_seed(11, "director", turn) for turn in (1, 2)],
        "actor": [derive_seed(11, "actor", turn) for turn in (1, 2)],
    }


async def test_without_director_no_stage_is_told() -> None:
    roles = Roles(QueuedChat(STILL), QueuedChat("Yes."))
    environment = roles.environment(has_director=False)
    await environment.open()
    exchange = await environment.respond("I hear you.")
    assert roles.order == ["judge", "actor"]
    assert (exchange.guidance, roles.queues["actor"].asked[0].case["fragment"]) == (None, None)


async def test_revealed_stages_move_from_untold_to_told() -> None:
    roles = Roles(
        QueuedChat(STILL), QueuedChat("Yes."), QueuedChat(move("reveal_stage", stage=2), move("continue"))
    )
    trajectory = await played(roles)
    assert trajectory.stop is Stop.LIMIT
    assert [asked.case["fragment"] for asked in roles.queues["actor"].asked] == [
        SCENARIO.stages[1],
        None,
        None,
    ]
    assert [asked.case["told"] for asked in roles.queues["actor"].asked] == [
        [],
        [SCENARIO.stages[1]],
        [SCENARIO.stages[1]],
    ]
    left = [{"stage": 1, "text": SCENARIO.stages[0]}]
    assert roles.queues["director"].asked[1].case["untold"] == left


async def test_success_asks_neither_director_nor_actor() -> None:
    roles = Roles(QueuedChat(HELP, FULL), QueuedChat("Yes."))
    trajectory = await played(roles)
    # (0, -1, -1) after turn 0 is too early to check; (3, 2, 2) after turn 1 lies across the origin.
    assert (trajectory.stop, trajectory.is_success, len(trajectory.turns)) == (Stop.SUCCESS, True, 2)
    assert trajectory.turns[-1].state_after == (3.0, 2.0, 2.0)
    assert roles.order == ["judge", "director", "actor", "judge"]


async def test_dialogue_is_cut_at_its_turn_limit() -> None:
    trajectory = await played(Roles(QueuedChat(HARM, STILL), QueuedChat("Yes.")))
    assert (trajectory.stop, len(trajectory.turns)) == (Stop.LIMIT, 4)
    assert [turn.index for turn in trajectory.turns] == [0, 1, 2, 3]


async def test_director_that_ends_a_dialogue_without_success_is_counted_and_it_continues() -> None:
    # Checks begin at turn 2; HARM never meets a need, so no `end` is in time, before or after that turn.
    ends = QueuedChat(move("end", "Say goodbye."))
    trajectory = await played(Roles(QueuedChat(STILL, HARM, STILL), QueuedChat("Yes.", "No.", "Hm."), ends))
    assert (trajectory.stop, len(trajectory.turns), len(ends.asked)) == (Stop.LIMIT, 4, 3)
    early = [answer.is_early_end for turn in trajectory.turns for answer in turn.answers]
    assert early == [True, False] * 3  # The Director's and the Actor's answers of each turn but the last.
    assert (count_early_ends([trajectory]), count_failures([trajectory])) == (3, 0)
    assert [turn.guidance for turn in trajectory.turns] == [None] * 4  # Nobody says goodbye.


async def test_success_at_the_first_checked_turn_leaves_the_director_nothing_to_end() -> None:
    director = QueuedChat(move("end"))
    trajectory = await played(Roles(QueuedChat(HELP, FULL), QueuedChat("Yes."), director))
    assert (trajectory.stop, len(trajectory.turns), len(director.asked)) == (Stop.SUCCESS, 2, 1)
    assert count_early_ends([trajectory]) == 1


async def test_failed_judgement_holds_the_state_and_the_dialogue_goes_on() -> None:
    trajectory = await played(Roles(QueuedChat(HELP, DOWN, HELP, FULL), QueuedChat("Yes.")))
    failed, good = trajectory.turns[1], trajectory.turns[2]
    assert (failed.judgement.status, failed.judgement.delta) == (Status.ABANDONED, None)
    assert failed.state_after == trajectory.turns[0].state_after == (0.0, -1.0, -1.0)
    assert good.state_after == (1.0, 0.0, 0.0)


async def test_failing_actor_ends_the_dialogue_and_keeps_the_scored_turns() -> None:
    trajectory = await played(Roles(QueuedChat(HELP, STILL), QueuedChat("Yes.", DOWN)))
    assert (trajectory.stop, trajectory.error) == (Stop.FAILED, "tiny at nowhere: down")
    assert [turn.state_after for turn in trajectory.turns] == [(0.0, -1.0, -1.0)] * 2


async def test_every_turn_carries_the_status_of_every_role() -> None:
    late = ChatError("tiny: late", kind="timeout", endpoint="tiny")
    director = QueuedChat(move("continue"), "no json", "nor this", move("continue"))
    trajectory = await played(Roles(QueuedChat(HELP, STILL), QueuedChat("Yes.", "No.", late), director))
    assert [turn.answers for turn in trajectory.turns] == [
        (RoleAnswer("director", Status.OK), RoleAnswer("actor", Status.OK)),
        (
            RoleAnswer(
                "director", Status.INVALID, "the answer holds no JSON object (after one repair attempt)"
            ),
            RoleAnswer("actor", Status.OK),
        ),
        (RoleAnswer("director", Status.OK), RoleAnswer("actor", Status.TIMED_OUT, "tiny: late")),
    ]
    assert [count_failures([trajectory]), trajectory.stop] == [2, Stop.FAILED]
    assert count_answers([trajectory])["judge", Status.OK] == 3


async def test_dialogue_whose_judge_never_answers_is_failed_and_not_cut_at_its_limit() -> None:
    trajectory = await played(Roles(QueuedChat(DOWN), QueuedChat("Yes.")))
    assert (trajectory.stop, len(trajectory.turns)) == (Stop.FAILED, 4)
    assert trajectory.error == "No turn was judged. The last judgement failed: tiny at nowhere: down"
    # Four lost judgements; the ending follows from them and is no fifth failure.
    assert count_failures([trajectory]) == 4


def test_dialogue_that_an_engine_breaks_off_is_one_failure() -> None:
    record = TrajectoryBuilder(SCENARIO, policy_prompt="")
    record.end(Stop.FAILED, "engine 0 died")
    assert count_failures([record.trajectory()]) == 1


@pytest.mark.parametrize("stop", [Stop.SUCCESS, Stop.LIMIT])
def test_silent_user_never_makes_a_short_ending(stop: Stop) -> None:
    record = TrajectoryBuilder(SCENARIO, policy_prompt="")
    record.open({"role": "user", "content": "Hello."})
    judgement = Judgement((1, 1, 1), (0, 0, 0), (1.0, 1.0, 1.0))
    silence = RoleAnswer("actor", Status.TIMED_OUT, "late")
    record.add("Hi.", Exchange(judgement, (0.0, -1.0, -1.0), user=None, stop=stop, answers=(silence,)))
    with pytest.raises(AssertionError):
        record.trajectory()


async def test_failing_director_is_survived_and_told() -> None:
    roles = Roles(QueuedChat(STILL), QueuedChat("Yes."), QueuedChat(DOWN))
    environment = roles.environment()
    await environment.open()
    exchange = await environment.respond("I hear you.")
    assert (exchange.stop, exchange.error) == (None, "tiny at nowhere: down")
    assert exchange.user == {"role": "user", "content": "Yes."}


async def test_failing_policy_ends_the_dialogue_and_keeps_the_turns() -> None:
    trajectory = await played(Roles(QueuedChat(STILL), QueuedChat("Yes.")), QueuedChat("I hear you.", DOWN))
    assert (trajectory.stop, trajectory.error, len(trajectory.turns)) == (
        Stop.FAILED,
        "tiny at nowhere: down",
        1,
    )


async def test_silent_policy_is_given_up_at_its_deadline() -> None:
    environment = Roles(QueuedChat(STILL), QueuedChat("Yes.")).environment()
    trajectory = await play_dialogue(
        DialogueStart(SCENARIO),
        environment,
        TextPolicy(QueuedChat(Forever())),
        Sampling(),
        policy_prompt="",
        reply_deadline_seconds=0.1,
    )
    assert (trajectory.stop, trajectory.turns) == (Stop.FAILED, ())
    assert "The policy did not reply within 0.1 s." in str(trajectory.error)


async def test_environment_is_used_once() -> None:
    environment = Roles(QueuedChat(FULL), QueuedChat("Yes.")).environment()
    with pytest.raises(RuntimeError, match="no message to reply to"):
        await environment.respond("too early")
    await environment.open()
    with pytest.raises(RuntimeError, match="already open"):
        await environment.open()
    await environment.respond("one")
    await environment.respond("two")
    with pytest.raises(RuntimeError, match="no message to reply to"):
        await environment.respond("after the end")


async def test_policy_sees_its_prompt_and_the_talk_and_nothing_of_the_roles() -> None:
    policy = QueuedChat("First reply.", "Second reply.")
    await played(Roles(QueuedChat(HELP, FULL), QueuedChat("Yes.")), policy, seed=4)
    assert policy.asked[1].messages == [
        {"role": "system", "content": "Be kind."},
        {"role": "user", "content": "The move left me lonely."},
        {"role": "assistant", "content": "First reply."},
        {"role": "user", "content": "Yes."},
    ]
    assert [asked.sampling.seed for asked in policy.asked] == [
        derive_seed(4, "policy", turn) for turn in (0, 1)
    ]


async def test_guidance_is_recorded_with_the_message_it_shaped() -> None:
    director = QueuedChat(move("continue", "be brief"), move("observe"), move("continue", "unused"))
    trajectory = await played(Roles(QueuedChat(STILL), QueuedChat("One.", "Two.", "Three."), director))
    assert [(turn.user, turn.guidance) for turn in trajectory.turns] == [
        ("The move left me lonely.", None),
        ("One.", "be brief"),
        ("Two.", None),
        ("Three.", "unused"),
    ]
    assert (trajectory.group, trajectory.sample) == (3, 1)


async def test_equal_dialogues_give_equal_trajectories() -> None:
    first, second = [await played(Roles(QueuedChat(HARM, HELP, STILL), QueuedChat("Yes."))) for _ in range(2)]
    assert first == second


async def test_record_counts_directors_that_failed() -> None:
    environment = Roles(
        QueuedChat(STILL), QueuedChat("Yes."), QueuedChat(DOWN, move("continue"))
    ).environment()
    record = TrajectoryBuilder(SCENARIO, policy_prompt="")
    record.open(await environment.open())
    for _ in range(2):
        record.add("I hear you.", await environment.respond("I hear you."))
    record.end(Stop.LIMIT)
    assert (record.num_turns, record.trajectory().director_failures) == (2, 1)
    assert record.messages[0] == {"role": "user", "content": "The move left me lonely."}


async def test_director_that_fails_before_a_failing_actor_is_counted_too() -> None:
    environment = Roles(QueuedChat(STILL), QueuedChat(DOWN), QueuedChat(DOWN)).environment()
    record = TrajectoryBuilder(SCENARIO, policy_prompt="")
    record.open(await environment.open())
    record.add("I hear you.", await environment.respond("I hear you."))
    trajectory = record.trajectory()
    assert (trajectory.stop, trajectory.director_failures) == (Stop.FAILED, 1)
    # A failed Actor is no failure of the Director.
    environment = Roles(QueuedChat(STILL), QueuedChat(DOWN), QueuedChat(move("continue"))).environment()
    record = TrajectoryBuilder(SCENARIO, policy_prompt="")
    record.open(await environment.open())
    record.add("I hear you.", await environment.respond("I hear you."))
    assert (record.trajectory().stop, record.trajectory().director_failures) == (Stop.FAILED, 0)


async def test_unfinished_record_is_no_trajectory_until_it_is_ended() -> None:
    record = TrajectoryBuilder(SCENARIO, policy_prompt="Be kind.")
    with pytest.raises(RuntimeError, match="not over"):
        record.trajectory()
    record.end(Stop.LIMIT)
    assert (record.trajectory().stop, record.trajectory().turns) == (Stop.LIMIT, ())


SILENT = replace(SCENARIO, opening="", language="zh")


async def test_actor_speaks_first_where_the_scenario_brings_no_opening() -> None:
    roles = Roles(QueuedChat(STILL), QueuedChat("它又掉叶子了。", "嗯。"))
    environment = roles.environment(7, scenario=SILENT)
    assert await environment.open() == {"role": "user", "content": "它又掉叶子了。"}
    asked = roles.queues["actor"].asked[0]
    assert (asked.case["dialogue"], asked.case["told"], asked.case["fragment"]) == ([], [], None)
    assert "由你先开口" in asked.case["guidance"]
    # The next message has another seed, and what was said first is part of the dialogue.
    assert asked.sampling.seed == derive_seed(7, "actor", 0)
    await environment.respond("我在。")
    later = roles.queues["actor"].asked[1]
    assert later.sampling.seed == derive_seed(7, "actor", 1)
    assert later.case["dialogue"] == [{"user": "它又掉叶子了。", "reply": "我在。"}]
    with pytest.raises(RuntimeError, match="already open"):
        await environment.open()


async def test_scenario_with_an_opening_asks_no_actor_for_it() -> None:
    roles = Roles(QueuedChat(STILL), QueuedChat("Not this."))
    assert (await roles.environment().open())["content"] == SCENARIO.opening
    assert roles.order == []


async def test_actor_that_finds_no_opening_fails_the_dialogue() -> None:
    roles = Roles(QueuedChat(STILL), QueuedChat(DOWN))
    trajectory = await play_dialogue(
        DialogueStart(SILENT),
        roles.environment(scenario=SILENT),
        TextPolicy(QueuedChat("I hear you.")),
        Sampling(),
        policy_prompt="",
    )
    assert (trajectory.stop, trajectory.error, trajectory.turns) == (Stop.FAILED, str(DOWN), ())
