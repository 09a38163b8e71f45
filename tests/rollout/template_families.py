"""Chat templates of many model families, each with a tokenizer that has the family's marks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING

from mica_ray.types import Message
from tests import small_policy
from tests.small_policy import (
    CHATML,
    CHATML_DEFAULT_SYSTEM,
    GEMMA,
    LLAMA3,
    MISTRAL,
    MISTRAL_FIRST,
    PLAIN_TEXT,
)

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerFast

ALL = ("system", "user", "assistant")
_LOOP, _END = "{% for message in messages %}", "{% endfor %}"
_OPEN = "{% if add_generation_prompt %}"

PHI = (
    _LOOP
    + "<|{{ message.role }}|>\n{{ message.content }}<|end|>\n"
    + _END
    + _OPEN
    + "<|assistant|>\n{% endif %}"
)
DEEPSEEK = (
    "{{ bos_token }}" + _LOOP + "{% if message.role == 'system' %}{{ message.content }}"
    "{% elif message.role == 'user' %}<｜User｜>{{ message.content }}"
    "{% else %}<｜Assistant｜>{{ message.content.split('</think>')[-1] }}{{ eos_token }}{% endif %}"
    + _END
    + _OPEN
    + "<｜Assistant｜>{% endif %}"
)
HARMONY = (
    _LOOP + "<|start|>{{ 'developer' if message.role == 'system' else message.role }}"
    "{{ '<|channel|>final' if message.role == 'assistant' }}<|message|>{{ message.content }}<|end|>"
    + _END
    + _OPEN
    + "<|start|>assistant{% endif %}"
)
QWEN3 = (
    _LOOP + "<|im_start|>{{ message.role }}\n"
    "{{ message.content.split('</think>')[-1].lstrip('\n') "
    "if message.role == 'assistant' else message.content }}"
    "<|im_end|>\n" + _END + _OPEN + "<|im_start|>assistant\n<think>\n{% endif %}"
)
# Thinking off: the prompt opens a reply with an empty thought, which earlier replies do not have.
QWEN3_OFF = QWEN3.replace("<think>\n{% endif %}", "<think>\n\n</think>\n\n{% endif %}")
# Thinking on: the policy writes its thought itself.
QWEN3_ON = QWEN3.replace("<think>\n{% endif %}", "{% endif %}")
LLAMA2 = (
    "{% set ns = namespace(system='') %}" + _LOOP + "{% if message.role == 'system' %}"
    "{% set ns.system = '<<SYS>>\n' + message.content + '\n<</SYS>>\n\n' %}"
    "{% elif message.role == 'user' %}{{ bos_token }}[INST] {{ ns.system + message.content | trim }} [/INST]"
    "{% set ns.system = '' %}"
    "{% else %} {{ message.content | trim }} {{ eos_token }}{% endif %}" + _END
)
VICUNA = (
    _LOOP + "{% if message.role == 'system' %}{{ message.content }} "
    "{% elif message.role == 'user' %}USER: {{ message.content }} "
    "{% else %}ASSISTANT: {{ message.content }}{{ eos_token }}{% endif %}"
    + _END
    + _OPEN
    + "ASSISTANT:{% endif %}"
)
ALPACA = (
    "Below is an instruction. Write a response that completes the request.\n\n"
    + _LOOP
    + "### {{ {'system': 'Input', 'user': 'Instruction', 'assistant': 'Response'}[message.role] }}:\n"
    "{{ message.content }}\n\n" + _END + _OPEN + "### Response:\n{% endif %}"
)
EXAONE = (
    _LOOP
    + "[|{{ message.role }}|]{{ message.content }}[|endofturn|]\n"
    + _END
    + _OPEN
    + "[|assistant|]{% endif %}"
)
COHERE = (
    "{{ bos_token }}"
    + _LOOP
    + "<|START_OF_TURN_TOKEN|><|{{ message.role | upper }}_TOKEN|>{{ message.content }}"
    "<|END_OF_TURN_TOKEN|>" + _END + _OPEN + "<|START_OF_TURN_TOKEN|><|ASSISTANT_TOKEN|>{% endif %}"
)
JSON_LINES = (
    _LOOP
    + "<|im_start|>{{ message.role }}\n{{ message.content | tojson }}<|im_end|>\n"
    + _END
    + _OPEN
    + "<|im_start|>assistant\n{% endif %}"
)


@dataclass(frozen=True)
class Family:
    """A chat template, the marks that its tokenizer knows, and the marks that open a turn."""

    template: str
    counted: Mapping[str, Sequence[str]]
    """Mark -> the roles whose turns it opens."""
    special: tuple[str, ...] = ("<|endoftext|>",)
    added: tuple[str, ...] = ()
    """Added tokens that are not special."""
    eos: str = "<|endoftext|>"
    bos: str | None = None
    opens: bool = True
    """Whether the prompt of a reply ends with the mark of the assistant's turn."""
    merges_system: bool = False
    """Whether a system message becomes part of a user's turn."""
    arguments: Mapping[str, object] = field(default_factory=dict)
    """How the tokenizer differs from a byte-level BPE."""


_CHATML_MARKS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
FAMILIES: Mapping[str, Family] = {
    "chatml": Family(CHATML, {"<|im_start|>": ALL}, _CHATML_MARKS, eos="<|im_end|>"),
    "smollm": Family(CHATML_DEFAULT_SYSTEM, {"<|im_start|>": ALL}, _CHATML_MARKS),
    "qwen3": Family(
        QWEN3, {"<|im_start|>": ALL}, _CHATML_MARKS, ("<think>", "</think>", "<tool_call>"), eos="<|im_end|>"
    ),
    **{
        name: Family(
            source,
            {"<|im_start|>": ALL},
            _CHATML_MARKS,
            ("<think>", "</think>", "<tool_call>"),
            eos="<|im_end|>",
        )
        for name, source in {"qwen3_off": QWEN3_OFF, "qwen3_on": QWEN3_ON}.items()
    },
    "llama3": Family(
        LLAMA3,
        {"<|start_header_id|>": ALL},
        ("<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"),
        eos="<|eot_id|>",
        bos="<|begin_of_text|>",
    ),
    "gemma": Family(
        GEMMA,
        {"<start_of_turn>": ("user", "assistant")},
        ("<bos>", "<eos>", "<start_of_turn>", "<end_of_turn>"),
        ("\n\n", "  ", "<h1>", "<unused5>"),
        eos="<eos>",
        bos="<bos>",
        merges_system=True,
    ),
    "mistral": Family(
        MISTRAL_FIRST,
        {"[INST]": ("user",)},
        ("<s>", "</s>", "[INST]", "[/INST]"),
        ("[TOOL_CALLS]",),
        eos="</s>",
        bos="<s>",
        opens=False,
        merges_system=True,
    ),
    "mistral_last": Family(
        MISTRAL,
        {"[INST]": ("user",)},
        ("<s>", "</s>", "[INST]", "[/INST]"),
        eos="</s>",
        bos="<s>",
        opens=False,
        merges_system=True,
        arguments={"metaspace": True},
    ),
    "phi": Family(
        PHI,
        {"<|user|>": ("user",), "<|assistant|>": ("assistant",), "<|system|>": ("system",)},
        ("<|endoftext|>", "<|user|>", "<|assistant|>", "<|system|>", "<|end|>"),
        arguments={"rstrip": True},
    ),
    "deepseek": Family(
        DEEPSEEK,
        {"<｜User｜>": ("user",), "<｜Assistant｜>": ("assistant",)},
        ("<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>"),
        ("<｜User｜>", "<｜Assistant｜>", "<think>", "</think>"),
        eos="<｜end▁of▁sentence｜>",
        bos="<｜begin▁of▁sentence｜>",
    ),
    "harmony": Family(
        HARMONY,
        {"<|start|>": ALL},
        ("<|start|>", "<|end|>", "<|message|>", "<|channel|>", "<|return|>", "<|call|>"),
        eos="<|return|>",
    ),
    "cohere": Family(
        COHERE,
        {"<|START_OF_TURN_TOKEN|>": ALL},
        (
            "<BOS_TOKEN>",
            "<|START_OF_TURN_TOKEN|>",
            "<|END_OF_TURN_TOKEN|>",
            "<|SYSTEM_TOKEN|>",
            "<|USER_TOKEN|>",
            "<|ASSISTANT_TOKEN|>",
        ),
        eos="<|END_OF_TURN_TOKEN|>",
        bos="<BOS_TOKEN>",
    ),
    "exaone": Family(
        EXAONE,
        {"[|user|]": ("user",), "[|assistant|]": ("assistant",), "[|system|]": ("system",)},
        ("[|endofturn|]", "[|user|]", "[|assistant|]", "[|system|]"),
        eos="[|endofturn|]",
    ),
    "chatml_nfkc": Family(
        CHATML, {"<|im_start|>": ALL}, _CHATML_MARKS, eos="<|im_end|>", arguments={"nfkc": True}
    ),
    "chatml_json": Family(JSON_LINES, {"<|im_start|>": ALL}, _CHATML_MARKS, eos="<|im_end|>"),
    "llama2": Family(
        LLAMA2,
        {"[INST]": ("user",), "[/INST]": ("user",), "<<SYS>>": ("system",)},
        ("<s>", "</s>"),
        eos="</s>",
        bos="<s>",
        opens=False,
    ),
    "zephyr": Family(
        PHI.replace("<|end|>", "{{ eos_token }}"),
        {"<|user|>": ("user",), "<|assistant|>": ("assistant",), "<|system|>": ("system",)},
        ("</s>",),
        eos="</s>",
    ),
    "vicuna": Family(VICUNA, {"USER:": ("user",), "ASSISTANT:": ("assistant",)}, ("</s>",), eos="</s>"),
    "alpaca": Family(
        ALPACA, {"### Instruction:": ("user",), "### Response:": ("assistant",), "### Input:": ("system",)}
    ),
    "plain_text": Family(
        PLAIN_TEXT, {"USER:": ("user",), "ASSISTANT:": ("assistant",), "SYSTEM:": ("system",)}
    ),
}
TEXT_MARKS = ("llama2", "zephyr", "vicuna", "alpaca", "plain_text")
"""Families whose turn marks are ordinary text to their tokenizer."""


@cache
def _vocabulary(*, metaspace: bool, nfkc: bool) -> str:
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

    tokenizer: Tokenizer
    if metaspace:
        tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
        tokenizer.decoder = decoders.Metaspace(prepend_scheme="first")
        alphabet = [chr(code) for code in range(33, 127)] + ["\n"]
    else:
        tokenizer = Tokenizer(models.BPE())
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer.decoder = decoders.ByteLevel()
        alphabet = pre_tokenizers.ByteLevel.alphabet()
    if nfkc:
        tokenizer.normalizer = normalizers.NFKC()
    trainer = trainers.BpeTrainer(
        vocab_size=384,
        special_tokens=["<unk>"] if metaspace else [],
        initial_alphabet=alphabet,
        show_progress=False,
    )
    tokenizer.train_from_iterator([small_policy._TEXT], trainer)
    return tokenizer.to_str()


@cache
def family_tokenizer(name: str) -> PreTrainedTokenizerFast:
    """The tokenizer of a family, with its chat template."""
    from tokenizers import AddedToken, Tokenizer
    from transformers import PreTrainedTokenizerFast

    family = FAMILIES[name]
    is_metaspace = bool(family.arguments.get("metaspace"))
    vocabulary = _vocabulary(metaspace=is_metaspace, nfkc=bool(family.arguments.get("nfkc")))
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(vocabulary), clean_up_tokenization_spaces=False
    )
    strips, folds = bool(family.arguments.get("rstrip")), bool(family.arguments.get("nfkc"))
    special = [AddedToken(mark, rstrip=strips, normalized=folds, special=True) for mark in family.special]
    added = [AddedToken(mark, normalized=False) for mark in family.added]
    tokenizer.add_tokens(special, special_tokens=True)  # type: ignore[arg-type]
    tokenizer.add_tokens(added)  # type: ignore[arg-type]
    tokenizer.eos_token, tokenizer.bos_token = family.eos, family.bos
    if is_metaspace:
        tokenizer.unk_token = "<unk>"
    elif family.bos is None:
        # As in the tokenizers of GPT-2's kind, where no text is unknown.
        tokenizer.unk_token = family.special[0]
    tokenizer.chat_template = family.template
    return tokenizer


def num_turns(name: str, ids: Sequence[int]) -> dict[str, int]:
    """Count the turn marks in a prompt: as tokens if the tokenizer knows them, otherwise as text."""
    tokenizer = family_tokenizer(name)
    known = set(FAMILIES[name].special) | set(FAMILIES[name].added)
    text = str(tokenizer.decode(list(ids)))
    return {
        mark: list[object](ids).count(tokenizer.convert_tokens_to_ids(mark))
        if mark in known
        else text.count(mark)
        for mark in FAMILIES[name].counted
    }


def spoken_turns(name: str, messages: Sequence[Message]) -> dict[str, int]:
    """Count the turns of a conversation, and the one that the prompt opens, by the mark that opens them."""
    family = FAMILIES[name]
    roles = [message["role"] for message in messages] + ["assistant"] * family.opens
    if name == "smollm" and roles[0] != "system":
        roles.append("system")
    return {mark: sum(role in opened for role in roles) for mark, opened in family.counted.items()}
