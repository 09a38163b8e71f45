"""ModelShape: the sizes in a model's config.json that decide how much memory training takes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

_EXPERT_KEYS = ("num_experts", "num_local_experts", "n_routed_experts")
_QUERY_KEY_NORMS = ("qwen3",)
"""Model types whose attention normalizes queries and keys per head."""
_QUERY_KEY_VALUE_BIASES = ("qwen2",)
"""Model types whose query, key and value projections have a bias without a key in the config."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelShape:
    """Sizes of a dense decoder with grouped attention and a gated MLP (Llama, Qwen2, Qwen3, Mistral)."""

    layers: int
    hidden: int
    """Width of the residual stream."""
    intermediate: int
    """Inner width of the MLP."""
    heads: int
    """Query heads."""
    kv_heads: int
    """Key and value heads."""
    head_size: int
    """Dimensions of a head."""
    vocabulary: int
    is_tied: bool
    """Whether the head shares the weights of the embedding."""
    has_query_key_norms: bool = False
    has_query_key_value_biases: bool = False
    has_output_bias: bool = False
    """Whether the output projection of the attention has a bias."""

    @property
    def query_width(self) -> int:
        """Width of the queries of all heads."""
        return self.heads * self.head_size

    @property
    def key_width(self) -> int:
        """Width of the keys, and of the values, of all heads."""
        return self.kv_heads * self.head_size

    def adapter_parameters(self, rank: int, targets: Sequence[str]) -> int:
        """Return the parameters of an adapter: rank x (inputs + outputs) of each target layer."""
        hidden, mlp = self.hidden, self.hidden + self.intermediate
        widths = {"q_proj": hidden + self.query_width, "o_proj": self.query_width + hidden}
        widths |= dict.fromkeys(("k_proj", "v_proj"), hidden + self.key_width)
        # A layer of another name counts as one of the MLP, the widest.
        return self.layers * rank * sum(widths.get(target.split(".")[-1], mlp) for target in targets)

    @property
    def layer_parameters(self) -> int:
        """Parameters of one layer.

            2 h q + 2 h k + 3 h f + 2 h  [+ q + 2 k biases]  [+ h output bias]  [+ 2 head_size norms]

        with the widths h of the residual stream, q of queries, k of keys and f of the MLP: projections of
        query and output, of key and value, three matrices of the MLP, two norms.
        """
        hidden, query, key = self.hidden, self.query_width, self.key_width
        count = 2 * hidden * query + 2 * hidden * key + 3 * hidden * self.intermediate + 2 * hidden
        count += (query + 2 * key) * self.has_query_key_value_biases + hidden * self.has_output_bias
        return count + 2 * self.head_size * self.has_query_key_norms

    @property
    def head_parameters(self) -> int:
        """Parameters of the embedding, and of the head."""
        return self.vocabulary * self.hidden

    @property
    def parameters(self) -> int:
        """Parameters of the whole model; a tied head is counted once."""
        embeddings = self.head_parameters * (1 if self.is_tied else 2)
        return embeddings + self.layers * self.layer_parameters + self.hidden


def read_shape(config: Mapping[str, object]) -> ModelShape | None:
    """Read the shape from a config.json in Hugging Face form; None if it is not a dense decoder.

    Mixtures of experts, encoders and configs without the usual keys have no shape here, and the plan counts
    only their weights.
    """
    inner = config.get("text_config")
    values: Mapping[str, object] = inner if isinstance(inner, Mapping) else config
    if any(values.get(key) for key in _EXPERT_KEYS):
        return None
    names = (
        "num_hidden_layers", "hidden_size", "intermediate_size", "num_attention_heads", "vocab_size",
    )  # fmt: skip
    counts = [values.get(name) for name in names]
    if not all(isinstance(count, int) and count > 0 for count in counts):
        return None
    layers, hidden, intermediate, heads, vocabulary = (int(str(count)) for count in counts)
    kind = str(values.get("model_type", ""))
    has_bias = bool(values.get("attention_bias", False))
    return ModelShape(
        layers=layers,
        hidden=hidden,
        intermediate=intermediate,
        heads=heads,
        kv_heads=_count(values, "num_key_value_heads", heads),
        head_size=_count(values, "head_dim", hidden // heads),
        vocabulary=vocabulary,
        is_tied=bool(values.get("tie_word_embeddings", config.get("tie_word_embeddings", False))),
        has_query_key_norms=kind in _QUERY_KEY_NORMS,
        has_query_key_value_biases=kind in _QUERY_KEY_VALUE_BIASES or has_bias,
        has_output_bias=has_bias and kind not in _QUERY_KEY_VALUE_BIASES,
    )


def _count(values: Mapping[str, object], name: str, default: int) -> int:
    value = values.get(name)
    return value if isinstance(value, int) and value > 0 else default
