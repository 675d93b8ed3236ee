"""The sizes of a language model, read from its config.json: nothing is loaded or built to know them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from include.errors import BadConfiguration

if TYPE_CHECKING:
    from collections.abc import Mapping

_NEEDED = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "vocab_size")
_EXPERTS = ("num_local_experts", "num_experts", "n_routed_experts")
_FUSED = ("phi3",)  # query, key and value in one matrix, gate and up in another
_QKV_BIAS = ("qwen2",)  # they have it whatever attention_bias says


@dataclass(frozen=True, slots=True)
class ModelShape:
    """A decoder of equal layers: attention, then a gated feed-forward part."""

    model_type: str
    vocabulary: int
    hidden: int
    intermediate: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    tied: bool
    qkv_bias: bool = False

    @property
    def linears(self) -> dict[str, tuple[int, int]]:
        """(in, out) of each matrix of a layer, by the name that adapters target it with."""
        q, kv = self.heads * self.head_dim, self.kv_heads * self.head_dim
        h, f = self.hidden, self.intermediate
        if self.model_type in _FUSED:
            return {"qkv_proj": (h, q + 2 * kv), "o_proj": (q, h), "gate_up_proj": (h, 2 * f), "down_proj": (f, h)}
        return {
            "q_proj": (h, q), "k_proj": (h, kv), "v_proj": (h, kv), "o_proj": (q, h),
            "gate_proj": (h, f), "up_proj": (h, f), "down_proj": (f, h),
        }  # fmt: skip

    @property
    def linear_parameters(self) -> int:
        """Of the matrices in all layers: what quantising takes."""
        return self.layers * sum(a * b for a, b in self.linears.values())

    @property
    def parameters(self) -> int:
        """Of the whole model."""
        words = self.vocabulary * self.hidden * (1 if self.tied else 2)
        biases = self.layers * (self.heads + 2 * self.kv_heads) * self.head_dim * self.qkv_bias
        return self.linear_parameters + words + biases + (2 * self.layers + 1) * self.hidden


def shape_of(config: Mapping[str, Any]) -> ModelShape:
    """The sizes that a config.json gives.

    :raises BadConfiguration: a mixture of experts, or sizes under other names: an estimate would be a guess.
    """
    kind = str(config.get("model_type", "unknown"))
    what = f"config.json of a model of type {kind!r}"
    missing = [key for key in _NEEDED if not isinstance(config.get(key), int)]
    if missing:
        raise BadConfiguration(what, f"it does not say {', '.join(missing)}", "The estimate knows dense decoders")
    if any(config.get(key) for key in _EXPERTS):
        raise BadConfiguration(
            what, "it is a mixture of experts, whose memory the estimate does not know", "The estimate knows dense decoders"
        )
    heads, hidden = config["num_attention_heads"], config["hidden_size"]
    return ModelShape(
        kind, config["vocab_size"], hidden, config["intermediate_size"], config["num_hidden_layers"], heads,
        config.get("num_key_value_heads") or heads, config.get("head_dim") or hidden // heads,
        bool(config.get("tie_word_embeddings", kind in ("gemma2",))), bool(config.get("attention_bias")) or kind in _QKV_BIAS,
    )  # fmt: skip
