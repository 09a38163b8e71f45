"""Faults that a model folder can have, each as a function that damages a good folder."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Mapping
from pathlib import Path

POINTER = f"version https://git-lfs.github.com/spec/v1\noid sha256:{'a' * 64}\nsize 12345\n"
WEIGHTS, CONFIG, TOKENIZER = "model.safetensors", "config.json", "tokenizer.json"
SETTINGS, TEMPLATE, GENERATION = "tokenizer_config.json", "chat_template.jinja", "generation_config.json"

Damage = Callable[[Path], None]


def text(name: str, content: str | bytes) -> Damage:
    """Replace a file."""
    raw = content if isinstance(content, bytes) else content.encode()

    def damage(folder: Path) -> None:
        (folder / name).unlink(missing_ok=True)
        (folder / name).write_bytes(raw)

    return damage


def cut(name: str, keep: float) -> Damage:
    """Keep the first part of a file, a fraction of its bytes."""

    def damage(folder: Path) -> None:
        content = (folder / name).read_bytes()
        (folder / name).write_bytes(content[: int(len(content) * keep)])

    return damage


def fields(name: str, **changed: object) -> Damage:
    """Change fields of a JSON file; None removes one."""

    def damage(folder: Path) -> None:
        kept = {**json.loads((folder / name).read_text()), **changed}
        kept = {key: value for key, value in kept.items() if value is not None}
        (folder / name).write_text(json.dumps(kept))

    return damage


def gone(*names: str) -> Damage:
    """Delete files."""

    def damage(folder: Path) -> None:
        for name in names:
            (folder / name).unlink()

    return damage


def quantized(method: str | None, **settings: object) -> Damage:
    """Mark the weights as quantized."""
    marks = {"quant_method": method, **settings} if method else {"bits": 4, **settings}
    return fields(CONFIG, quantization_config=marks)


def replaced(name: str, old: str, new: str) -> Damage:
    """Replace a text inside a file."""

    def damage(folder: Path) -> None:
        content = (folder / name).read_text()
        assert old in content
        (folder / name).write_text(content.replace(old, new))

    return damage


def header(change: Callable[[dict[str, dict[str, object]]], object]) -> Damage:
    """Change the header of the weights and keep the tensors' bytes."""

    def damage(folder: Path) -> None:
        raw = (folder / WEIGHTS).read_bytes()
        (length,) = struct.unpack("<Q", raw[:8])
        entries = json.loads(raw[8 : 8 + length])
        change(entries)
        new = json.dumps(entries).encode()
        (folder / WEIGHTS).write_bytes(struct.pack("<Q", len(new)) + new + raw[8 + length :])

    return damage


def sharded(weight_map: Mapping[str, str] | None) -> Damage:
    """Name the weights as one shard of an index; None keeps every tensor where it is."""

    def damage(folder: Path) -> None:
        shard = "model-00001-of-00002.safetensors"
        raw = (folder / WEIGHTS).read_bytes()
        (length,) = struct.unpack("<Q", raw[:8])
        names = [name for name in json.loads(raw[8 : 8 + length]) if name != "__metadata__"]
        (folder / WEIGHTS).rename(folder / shard)
        index = {
            "metadata": {"total_size": len(raw)},
            "weight_map": {**dict.fromkeys(names, shard), **(weight_map or {})},
        }
        (folder / f"{WEIGHTS}.index.json").write_text(json.dumps(index))

    return damage


def linked(name: str, target: str) -> Damage:
    """Replace a file by a symbolic link."""

    def damage(folder: Path) -> None:
        (folder / name).unlink()
        (folder / name).symlink_to(target)

    return damage


def pickled(keep: float, *, first: bytes = b"") -> Damage:
    """Store the weights as a PyTorch file, and keep a part of it behind other first bytes."""

    def damage(folder: Path) -> None:
        import torch
        from safetensors.torch import load_file

        torch.save(load_file(folder / WEIGHTS), folder / "pytorch_model.bin")
        (folder / WEIGHTS).unlink()
        cut("pytorch_model.bin", keep)(folder)
        path = folder / "pytorch_model.bin"
        path.write_bytes(first + path.read_bytes()[len(first) :])

    return damage


def foldered(name: str) -> Damage:
    """Replace a file by a folder."""

    def damage(folder: Path) -> None:
        (folder / name).unlink()
        (folder / name).mkdir()

    return damage


def both(*damages: Damage) -> Damage:
    """Apply several."""

    def damage(folder: Path) -> None:
        for one in damages:
            one(folder)

    return damage


def _first(entries: dict[str, dict[str, object]]) -> dict[str, object]:
    return next(entry for name, entry in entries.items() if name != "__metadata__")


_CODE = {"AutoConfig": "configuration_own.OwnConfig", "AutoModelForCausalLM": "modeling_own.OwnModel"}

FAULTS: dict[str, tuple[Damage, str]] = {
    "weights are a pointer": (text(WEIGHTS, POINTER), f"{WEIGHTS}: is a Git LFS pointer"),
    "tokenizer is a pointer": (text(TOKENIZER, POINTER), f"{TOKENIZER}: is a Git LFS pointer"),
    "config is a pointer": (text(CONFIG, POINTER), f"{CONFIG}: is a Git LFS pointer"),
    "template is a pointer": (text(TEMPLATE, POINTER), f"{TEMPLATE}: is a Git LFS pointer"),
    "weights lack a byte": (cut(WEIGHTS, 0.999999), f"{WEIGHTS}: is cut off"),
    "weights lack a half": (cut(WEIGHTS, 0.5), f"{WEIGHTS}: is cut off"),
    "header is cut off": (cut(WEIGHTS, 0.001), f"{WEIGHTS}: is cut off"),
    "length is cut off": (text(WEIGHTS, b"\0\1"), f"{WEIGHTS}: is cut off"),
    "weights are empty": (text(WEIGHTS, ""), f"{WEIGHTS}: is empty"),
    "weights are zeros": (text(WEIGHTS, bytes(4096)), f"{WEIGHTS}: "),
    "weights are a page": (text(WEIGHTS, "<html>" * 99), f"{WEIGHTS}: is cut off"),
    "weights are longer": (lambda at: text(WEIGHTS, (at / WEIGHTS).read_bytes() + b"x")(at), "is longer"),
    "header is no JSON": (text(WEIGHTS, struct.pack("<Q", 9) + b"{{{{{{{{{"), "header cannot be read"),
    "unknown number type": (header(lambda all: _first(all).update(dtype="F7")), "header is invalid"),
    "shape disagrees": (header(lambda all: _first(all).update(shape=[3])), "header is invalid"),
    "header lacks offsets": (header(lambda all: _first(all).pop("data_offsets")), "header cannot be read"),
    "no weights": (gone(WEIGHTS), "the weights (model.safetensors) are missing"),
    "weights of another program": (
        lambda at: both(gone(WEIGHTS), text("model.gguf", "GGUF"))(at),
        "model.gguf: weights in this format cannot be loaded",
    ),
    "shard is missing": (sharded({"model.norm.weight": "b.safetensors"}), "b.safetensors: is missing"),
    "shard lacks a tensor": (
        sharded({"model.layers.7.w": "model-00001-of-00002.safetensors"}),
        "lacks 1 tensors",
    ),
    "only the index": (
        both(sharded(None), gone("model-00001-of-00002.safetensors")),
        "is missing, like all 1 files",
    ),
    "index is a pointer": (both(sharded(None), text(f"{WEIGHTS}.index.json", POINTER)), "LFS pointer"),
    "index has no map": (both(sharded(None), text(f"{WEIGHTS}.index.json", "{}")), "weight_map must map"),
    "index is cut off": (both(sharded(None), cut(f"{WEIGHTS}.index.json", 0.5)), "cannot be read as JSON"),
    "pickle is cut off": (pickled(0.7), "pytorch_model.bin: is cut off"),
    "pickle is a page": (pickled(0.7, first=b"<html>"), "pytorch_model.bin: is cut off"),
    "pickle is a pointer": (both(gone(WEIGHTS), text("pytorch_model.bin", POINTER)), "LFS pointer"),
    "embedding of another size": (fields(CONFIG, vocab_size=383), "model.embed_tokens.weight has shape"),
    "tokenizer of another size": (
        fields(CONFIG, vocab_size=300),
        "vocab_size in config.json is 300. Use the tokenizer of this model",
    ),
    "a layer is missing": (
        fields(CONFIG, num_hidden_layers=3, layer_types=["full_attention"] * 3),
        "num_hidden_layers is 3, but the weight files have 2 layers",
    ),
    "a layer is left over": (
        fields(CONFIG, num_hidden_layers=1, layer_types=["full_attention"]),
        "the model has no model.layers.1",
    ),
    "output head is missing": (fields(CONFIG, tie_word_embeddings=False), "they lack lm_head.weight"),
    "heads of another size": (fields(CONFIG, head_dim=64), "has shape"),
    "layers contradict": (fields(CONFIG, num_hidden_layers=3), "num_hidden_layers"),
    "unknown model type": (fields(CONFIG, model_type="qwen99"), "does not recognize"),
    "no model type": (fields(CONFIG, model_type=None, architectures=None), "config.json: transformers"),
    "model type of another kind": (fields(CONFIG, model_type="vit"), "Unrecognized configuration class"),
    "code in the folder": (fields(CONFIG, model_type="own", auto_map=_CODE), "which is not run"),
    "newer library": (
        fields(CONFIG, model_type="new", transformers_version="9.0.0"),
        "(the file was written by 9.0.0)",
    ),
    "unknown number type in config": (fields(CONFIG, dtype="banana"), "banana"),
    "old name of the number type": (fields(CONFIG, dtype=None, torch_dtype="float17"), "float17"),
    "size is a text": (fields(CONFIG, hidden_size="wide"), "got 'wide'"),
    "size is negative": (fields(CONFIG, hidden_size=-64), "hidden_size must be an integer in [1, "),
    "config is a list": (text(CONFIG, "[1]"), "must contain a JSON object, got list"),
    "config is cut off": (cut(CONFIG, 0.5), f"{CONFIG} cannot be read as JSON"),
    "config is missing": (gone(CONFIG), "config.json is missing"),
    "gptq": (quantized("gptq", bits=4), "optimum"),
    "awq": (quantized("awq", bits=4), "gptqmodel"),
    "bitsandbytes": (quantized("bitsandbytes", load_in_4bit=True), "bitsandbytes"),
    "unknown quantization": (quantized("zzz"), "does not know quantization 'zzz'"),
    "quantization without a method": (quantized(None), "has no quant_method"),
    "tokenizer is cut off": (cut(TOKENIZER, 0.5), f"{TOKENIZER} cannot be read as JSON"),
    "tokenizer is empty": (text(TOKENIZER, ""), f"{TOKENIZER}: is empty"),
    "tokenizer is an object of nothing": (text(TOKENIZER, "{}"), "tokenizer of policy"),
    "tokenizer of a newer library": (replaced(TOKENIZER, '"BPE"', '"BPE9"'), "or update transformers"),
    "tokenizer with an unknown part": (replaced(TOKENIZER, '"ByteLevel"', '"BitLevel"'), "update transf"),
    "tokenizer is missing": (gone(TOKENIZER), "the tokenizer (tokenizer.json) is missing"),
    "settings are a list": (text(SETTINGS, "[1]"), f"{SETTINGS} must contain a JSON object"),
    "settings are cut off": (cut(SETTINGS, 0.5), f"{SETTINGS} cannot be read as JSON"),
    "no end of sequence": (fields(SETTINGS, eos_token=None), "no end-of-sequence token"),
    "template is missing": (gone(TEMPLATE), "the chat template (chat_template.jinja) is missing"),
    "template is empty": (text(TEMPLATE, ""), f"{TEMPLATE}: is empty"),
    "template is cut off": (cut(TEMPLATE, 0.5), "cannot render a dialogue"),
    "template with an unknown filter": (text(TEMPLATE, "{{ messages | nosuch }}"), "nosuch"),
    "template raises two lines": (text(TEMPLATE, "{{ raise_exception('no\\nroom') }}"), "no room"),
    "template is no text": (text(TEMPLATE, b"\xff\xfe{{ messages }}"), "utf-8"),
    "template drops replies": (text(TEMPLATE, "{{ messages[0].content }}"), "drops the assistant's replies"),
    "template adds numbers": (text(TEMPLATE, "{{ messages[0].content + 3 }}"), "policy"),
    "generation config is cut off": (cut(GENERATION, 0.5), f"{GENERATION} cannot be read as JSON"),
    "link to itself": (linked(WEIGHTS, WEIGHTS), "cannot be read"),
    "link to nothing": (linked(WEIGHTS, "absent"), "cannot be read"),
    "config is a link to itself": (linked(CONFIG, CONFIG), f"{CONFIG}: cannot be read"),
    "tokenizer is a folder": (foldered(TOKENIZER), f"{TOKENIZER}: cannot be read"),
    "weights are a folder": (foldered(WEIGHTS), f"{WEIGHTS}: cannot be read"),
}
"""Fault to the damage, and a part of its message."""
