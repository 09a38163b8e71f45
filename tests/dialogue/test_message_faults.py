"""A simulated person writes neither scripts nor control marks, and never speaks as a model."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from mica_ray.chat.model import ChatError, ChatReply
from mica_ray.dialogue.actor import Actor
from mica_ray.dialogue.actor_message import message_problem
from mica_ray.dialogue.message_faults import has_control_mark, is_script, speaks_as_model
from mica_ray.types import FinishReason, Sampling
from tests.dialogue.tiny_domain import DOMAIN, SCENARIO, QueuedChat

SCRIPTS = [
    "User 1: hi",
    "心理医生：你好\n患者：我累",
    "Assistant: I'm sorry to hear that. User: thanks",
    "I feel lost.\nHelper: That hurts.\nMe: yes",
    "支持者：我在听。\n用户：谢谢",
    "我很难过。支持者：我在听",
    "**Assistant:** hi",
    "**Assistant**: hi",
    "I am sad. Assistant: I am sorry.",
    "I'm so tired User: yes Assistant: no",
    "助手：你好",
    "AI: hello there",
    "I'm ok.\n\nHuman: thanks",
    "[USER] hi [ASSISTANT] hello",
    "> Helper: hi",
    "用户：我累了。\n助手：休息吧",
    "I feel bad (Assistant: I hear you)",
    "## Assistant: hi",
    "Therapist: how are you?\nClient: sad",
    "我：好累\n朋友：休息吧。",
    "- Supporter: ok",
    "AI助手：你好",
    "心理咨询师：你好",
    "assistant: hello",
    "USER: hi",
    "I hate it.Assistant: Sorry",
    "I hate it\tAssistant: Sorry. User: ok",
    "Chatbot: hi",
    "AI Assistant: ok",
    "The assistant: ok",
    "<b>Assistant:</b> hello",
    "Assistant - I'm sorry\nUser - thanks",
    "(Assistant) I hear you",
    "A: I am sad\nB: I hear you",
    "ok\nYou: I hear you",
    "hi\nTherapist: how are you?",
    "我很难过\n你：我理解",
    "I'm sad. It goes on. Human:",
    "I'm sad\n\nUser:",
    "The user's next message: I'm sad",
]
CONTROL_MARKS = [
    "I am sad.<|im_end|>",
    "bye</s>",
    "ok <end_of_turn>",
    "[/INST] sure",
    "x<|eot_id|>",
    "### Response",
    "I am sad\n###",
    "<｜end▁of▁sentence｜>",
    "</think>ok",
    "<|endoftext|>",
    "hi <|im_start|>user",
    "<s>hi",
    "[END]",
    "<|im_end",
    "<eos>",
    "<|channel|>final",
    "[gMASK]<sop>",
    "<start_of_turn>model",
    "ok[EOS]",
    "<<SYS>>be",
    "<tool_call>{}</tool_call>",
    "<|assistant|>",
    "◁/think▷",
    "＜|im_end|＞ hi",
    "[|endofturn|]",
    "<turn|>ok",
    "# Next message\nhi",
    "---\nhi",
    "<user>hi</user>",
    "<extra_id_0>",
    "bye [END OF CONVERSATION]",
    "bye <done>",
    "bye (end of message)",
    "I am done. TERMINATE",
    "bye\nEND_OF_TURN",
    "(OOC: this is hard)",
    "OOC: I stop here",
    "I'm tired. (Note: kept short)",
]
MODEL_TALK = [
    "As your AI assistant, I listen.",
    "I apologize, but I cannot simulate this person.",
    "I'm not comfortable playing this role.",
    "I can't generate a message like that.",
    "I cannot produce that content.",
    "I won't pretend to be a person who is sad.",
    "I can't act as the user.",
    "How can I help you right now?",
    "作為一個人工智慧，我沒有感情",
    "我是一個AI助手",
    "抱歉，我無法協助這個請求",
    "身為一個語言模型",
    "作为您的AI助手，我会听。",
    "作为一个大型语言模型，我不能。",
    "身为一个人工智能助手，我无法回答。",
    "I’m afraid I can’t help with that request.",
    "As an AI language model, I cannot feel.",
    "I'm sorry, but I can't assist with that.",
    "I’m sorry, but I can’t help with that request.",
    "作为一个人工智能，我没有感情。",
    "作为AI语言模型，我无法",
    "As an AI, I don't have feelings",
    "I am a language model",
    "i'm just an AI",
    "I apologize, but I cannot continue this role-play.",
    "I'm sorry, but I can't.",
    "I cannot fulfill that request.",
    "我是一个AI助手，不能扮演",
    "抱歉，我无法协助这个请求",
    "很抱歉，我不能满足您的要求",
    "How can I help you today?",
    "Sure, here's the next message: I'm sad",
    "As a large language model trained by OpenAI",
    "I was created by Anthropic to be helpful",
    "I don't have personal experiences",
    "我是由阿里云开发的",
    "作为人工智能助手，我",
    "我只是一个语言模型",
    "I must break character here",
    "Unfortunately, I am unable to provide that",
    "Here is my response as the user: I'm sad",
    "Sorry, I can't engage in this conversation",
    "I’m an AI assistant, so",
    "I am Qwen, made by",
    "有什么可以帮您的吗？",
    "对不起，我不能继续扮演这个角色",
    "As an artificial intelligence, I",
    "I'm not able to roleplay as",
    "i won't pretend to be",
    "I am an artificial intelligence and",
    "As an A.I. I can't",
    "As an AI chatbot, I",
    "Speaking as an AI model,",
    "I'm sorry, I cannot comply",
    "I'm unable to assist",
    "好的，以下是我的回复：我很累",
]
ORDINARY = [
    "身为AI行业的人，我很累",
    "my AI assistant broke",
    "作为老师，我很累",
    "I have an AI that listens",
    "as the AI engineer of the team I am tired",
    "my assistant: she left",
    "as an AI researcher I feel tired",
    "I'm sorry I can't talk",
    "I'm sorry, but I can't talk right now.",
    "I'm sorry but I can't keep doing this",
    "I can't help it, I cry all day",
    "I can't help thinking about her.",
    "I don't have feelings for him anymore",
    "My boss told me: work harder",
    "他：你别再联系我了。我：好吧",
    "朋友：你怎么了？",
    "Mom: she never listens",
    "Therapist: useless. Pills: worse.",
    "作为一个AI研究员，我很累",
    "我是做人工智能的",
    "我不能帮他",
    "抱歉，我不能再说了",
    "对不起，我没法继续了",
    "As an AI engineer, I",
    "I work at an AI company as an assistant",
    "I am an AI student",
    "my language model class is hard",
    "I'm #1 at failing",
    "I scored 3/10 :(",
    "time: 3am, and I'm awake",
    "<3 thank you",
    "我没有感情了",
    "I am a bot at work, that's how they treat me",
    "the user manual: useless",
    "I used ChatGPT: no help",
    "Honestly, I can't do that.",
    "They said: you are done",
    "I can't play this game anymore",
    "I won't write to him again",
    "I can't write anymore",
    "I can't write this essay",
    "I can't generate any motivation",
    "I can't provide for my kids",
    "I can't pretend to be fine",
    "I can't pretend to be okay with it",
    "I can't act as if nothing happened",
    "I can't engage with people",
    "I can't participate in group therapy",
    "I can't take on any more work",
    "I wish someone would ask how can i help you",
    "How can I help you understand?",
    "It has to stop. The end of the conversation came too early.",
    "My day was long.\nMom: she never listens",
    "I got a note: meet me",
    "well-done - she - left",
    "How can I help him?",
    "Note to self: breathe.",
    "I have one question: why?",
    "老师说：你不行",
    "我的助手：她走了",
    "I was made to feel small",
    "I was trained to obey my father",
    "I'm an assistant at a law firm",
    "I'm sorry, I can't provide for my family",
    "no, i can't answer that right now?",
    "I am an assistant",
    "I cannot assist my mother any longer",
]

FAULTS: tuple[tuple[Callable[[str], bool], list[str], str], ...] = (
    (is_script, SCRIPTS, "names who speaks"),
    (has_control_mark, CONTROL_MARKS, "control marks"),
    (speaks_as_model, MODEL_TALK, "as an AI model"),
)
CASES = [(has_fault, text, problem) for has_fault, texts, problem in FAULTS for text in texts]


@pytest.mark.parametrize(("has_fault", "text", "problem"), CASES)
def test_words_of_a_model_are_recognized(has_fault: Callable[[str], bool], text: str, problem: str) -> None:
    assert has_fault(text)
    found = message_problem(text, (), fragment=None)
    assert found is not None and found.chinese


@pytest.mark.parametrize("text", ORDINARY)
def test_words_of_a_person_are_not(text: str) -> None:
    assert not (is_script(text) or has_control_mark(text) or speaks_as_model(text))
    assert message_problem(text, (), fragment=None) is None


@pytest.mark.parametrize(
    ("text", "persona", "names"),
    [
        ("Anna: I am sad.", "Anna, a nurse of 34.", True),
        ("小雨：好累。", "小雨，34岁的护士。", True),
        ("Work: it is awful.", "Anna likes her work.", False),
        ("Mom: she left.", "Anna, whose mother left.", False),
        ("妈妈：她走了。", "小雨，34岁，和妈妈住。", False),
        ("Anna: I am sad.", "", False),
    ],
)
def test_own_name_before_the_words_is_a_script(text: str, persona: str, names: bool) -> None:
    assert is_script(text, persona) is names


async def written(*drafts: ChatReply | Exception | str) -> tuple[str, QueuedChat]:
    model = QueuedChat(*drafts)
    message = await Actor(model, DOMAIN, Sampling()).open(SCENARIO, seed=1)
    return message.text, model


@pytest.mark.parametrize("reason", ["length", "content_filter"])
async def test_message_that_was_cut_off_is_written_again(reason: FinishReason) -> None:
    cut = ChatReply("I went home and then I", "m", finish_reason=reason)
    text, model = await written(cut, ChatReply("It is quiet here.", "m", finish_reason="stop"))
    assert text == "It is quiet here."
    assert "breaks off before its end" in model.asked[1].messages[0]["content"]
    with pytest.raises(ChatError, match="4 drafts: it breaks off"):
        await written(cut)


@pytest.mark.parametrize("reason", ["stop", None])
async def test_whole_message_and_one_without_a_reason_are_sent(reason: FinishReason | None) -> None:
    assert (await written(ChatReply("It is quiet here.", "m", finish_reason=reason)))[
        0
    ] == "It is quiet here."


async def test_unfinished_thought_of_the_actor_costs_a_draft_and_an_outage_the_dialogue() -> None:
    thought = ChatError("m: the reply ends inside a thought.", kind="content", endpoint="m")
    text, model = await written(thought, "It is quiet here.")
    assert (text, len(model.asked)) == ("It is quiet here.", 2)
    assert "it says nothing" in model.asked[1].messages[0]["content"]
    with pytest.raises(ChatError, match="down"):
        await written(ChatError("m: down", kind="infrastructure", endpoint="m"))


def recorded_messages(name: str, benchmark_data: Path) -> list[str]:
    """The words of people, or of their simulators, in a public data set."""
    if name == "empa":
        files = sorted((benchmark_data / "empa" / "recorded_runs").glob("*.jsonl"))
        key, role, text, who = "history", "role", "content", "actor"
    else:
        files = sorted((benchmark_data / "esconv").glob("*.jsonl"))
        key, role, text, who = "dialog", "speaker", "text", "seeker"
    lines = [json.loads(line) for file in files for line in file.read_text().splitlines()]
    return [turn[text] for line in lines for turn in line[key] if turn[role] == who]


@pytest.mark.parametrize(("name", "least"), [("empa", 2000), ("esconv", 2000)])
def test_recorded_messages_of_people_pass(name: str, least: int, benchmark_data: Path) -> None:
    messages = recorded_messages(name, benchmark_data)
    assert len(messages) > least
    # None of 2,625 and 4,573 messages when this was written.
    assert [text for text in messages if any(check(text) for check, _, _ in FAULTS)] == []
