"""What a training will need, worked out before a GPU is asked for: memory at its peak, and time.

Everything is a pure function of config.json and the workload. The activations follow Korthikanti et al. 2022 (Reducing
Activation Recomputation in Large Transformer Models, arXiv 2205.05198, section 4), counted anew for a gated feed-forward part,
attention that keeps no scores (SDPA), and frozen weights: a product with one keeps its input only if an adapter sits there.
docs/adapters.md has the formula and how far it is from what was measured.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from include.errors import BadConfiguration

if TYPE_CHECKING:
    from include.training.llm.shapes import ModelShape

GIB = 2**30
_BYTES = {"fp32": 4, "bf16": 2}
# A weight of a quantised matrix. nf4: 4 bits, a scale of 8 bits for 64 weights, one of 32 for 256 of those (QLoRA, section 3).
_QUANTISED = {"nf4": (4 + 8 / 64 + 32 / (64 * 256)) / 8, "int8": 1.0}
# Without Triton, trl's fused head works in torch, on tiles of 4,096 tokens by 32,768 words (trl/kernels/chunked_logprob.py):
# besides the tile, the backward pass holds about seven more of float32. With Triton (CUDA) the tile is changed where it lies.
_TILE_TOKENS, _TILE_WORDS = 4096, 32768
_TORCH_TILES = 7
_CONTEXT = {"cuda": 0.5 * GIB, "cpu": 0.0}  # CUDA's context and cuBLAS' workspace; a CPU has none
_SPARE = {"cuda": 1.05, "cpu": 1.0}  # what the caching allocator holds and cannot use

# Environment of a training on a CPU: without it glibc keeps freed tensors, and the peak was up to 1.5 times the estimate.
RETURN_MEMORY = {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536", "MALLOC_ARENA_MAX": "1"}


@dataclass(frozen=True, slots=True)
class Workload:
    """A training as far as memory and time depend on it.

    :param batch: sequences that one device reads at once; with DPO pairs, which are two sequences each.
    :param sequence: tokens of the longest.
    :param quantisation: of the base: none, int8 or nf4.
    :param precision: bf16: weights and arithmetic; the adapter's weights stay float32.
    :param targets: projections with an adapter.
    :param checkpointing: keep a layer's input alone, and compute the layer again in the backward pass.
    :param padded: sequences of different length in a batch: attention then keeps a mask of sequence x sequence.
    :param packed: rows of several conversations, a batch flattened into one: the mask is of all its tokens by all.
    :param head: fused: trl's, which never holds all logits; full: model(labels=…) of transformers, which does.
    """

    batch: int
    sequence: int
    quantisation: Literal["none", "int8", "nf4"] = "none"
    precision: Literal["bf16", "fp32"] = "bf16"
    rank: int = 16
    targets: tuple[str, ...] = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
    checkpointing: bool = True
    padded: bool = True
    dropout: float = 0.0
    method: Literal["sft", "dpo"] = "sft"
    head: Literal["fused", "full"] = "fused"
    device: Literal["cuda", "cpu"] = "cuda"
    packed: bool = False

    @property
    def sequences(self) -> int:
        """That are in memory at once."""
        return self.batch * (2 if self.method == "dpo" else 1)

    @property
    def tokens(self) -> int:
        """Of a step on one device."""
        return self.sequences * self.sequence


@dataclass(frozen=True, slots=True)
class Estimate:
    """Bytes at the peak, by what they are for, and the work of a token.

    :param flops_per_token: forward and backward; see :func:`flops_per_token`.
    """

    weights: int
    adapter: int
    gradients: int
    optimizer: int
    activations: int
    head: int
    workspace: int
    context: int
    parameters: int
    trainable: int
    flops_per_token: float

    @property
    def peak(self) -> int:
        """All bytes together."""
        state = self.weights + self.adapter + self.gradients + self.optimizer
        return state + self.activations + self.head + self.workspace + self.context

    def seconds(self, tokens: int, *, flops: float = 0.0, utilisation: float = 0.35, rate: float = 0.0) -> float:
        """How long ``tokens`` take.

        :param flops: peak of the device's arithmetic, a second; with ``utilisation``, the share of it that trainings reach.
        :param rate: tokens a second that were measured; counts in place of both.
        """
        if rate > 0:
            return tokens / rate
        if flops <= 0 or not 0 < utilisation <= 1:
            raise BadConfiguration(
                "estimate of time", "neither a rate nor the device's FLOP/s is known", "Measure the rate, or name the FLOP/s"
            )
        return tokens * self.flops_per_token / (flops * utilisation)


def estimate(shape: ModelShape, work: Workload) -> Estimate:
    """Memory at the peak of a training with LoRA and AdamW, and its work.

    :raises BadConfiguration: a size below 1, or a target that the model lacks.
    """
    _check(shape, work)
    trainable = shape.layers * sum(work.rank * (a + b) for name, (a, b) in shape.linears.items() if name in work.targets)
    layer, spare = layer_bytes(shape, work), _SPARE[work.device]
    kept = shape.layers * work.tokens * shape.hidden * _BYTES[work.precision] if work.checkpointing else shape.layers * layer
    last = work.tokens * shape.hidden * (4 + _BYTES[work.precision])  # the last norm's input, and what the head reads
    head, backward = head_bytes(shape, work), _backward_bytes(shape, work) + (layer if work.checkpointing else 0)
    # The head's backward pass is over when that of the layers begins: the larger of the two counts.
    return Estimate(
        weights=_weight_bytes(shape, work),
        adapter=trainable * (4 if work.precision == "fp32" else 6),  # float32, and autocast's copy in bf16
        gradients=trainable * 4,
        optimizer=trainable * 8,
        activations=round((kept + last) * spare),
        head=round(max(head - backward, 0) * spare),
        workspace=round(backward * spare),
        context=round(_CONTEXT[work.device]),
        parameters=shape.parameters,
        trainable=trainable,
        flops_per_token=flops_per_token(shape, work),
    )


def layer_bytes(shape: ModelShape, work: Workload) -> int:
    """What the backward pass of one layer needs from its forward pass: transformers' Llama with peft, tensor by tensor.

    In bf16 peft turns a projection's input into float32 and autocast turns it back, so each adapted projection keeps a copy of
    its own; in fp32 those that read the same tensor share it.
    """
    e, h, f = _BYTES[work.precision], shape.hidden, shape.intermediate
    q, kv = shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim
    on = [name for name in work.targets if name in shape.linears]
    norms = 2 * (4 * h + 4)  # inputs in float32, and one number a token
    masked = work.packed or (
        work.padded and work.sequences > 1
    )  # SDPA then wants keys and values for all heads, and keeps the mask as numbers
    attention = e * (q + 2 * (q if masked else kv) + q) + 4 * shape.heads  # q, k, v, output; the sum of its exponentials
    gated = 3 * e * f  # gate, its activation, up
    inputs = _adapted_inputs(shape, on, shared=work.precision == "fp32" and not work.dropout) * e
    if work.dropout:  # the input after dropout is kept as above, and the mask
        inputs += sum(shape.linears[name][0] for name in on) * (1 if work.device == "cuda" else e)
    small = e * work.rank * len(on)
    masked_tokens = work.tokens**2 if work.packed else work.sequences * work.sequence**2
    masks = masked_tokens * e if masked else 0
    return work.tokens * (norms + attention + gated + inputs + small) + masks


def head_bytes(shape: ModelShape, work: Workload) -> int:
    """The most that computing the loss from the last hidden states holds at once."""
    e = _BYTES[work.precision]
    if work.head == "full":  # log-probabilities, their gradient and that of the logits, all float32
        return 12 * work.tokens * shape.vocabulary
    tile = min(work.tokens, _TILE_TOKENS) * min(shape.vocabulary, _TILE_WORDS)
    return tile * (e if work.device == "cuda" else e + 4 * _TORCH_TILES) + work.tokens * shape.hidden * (4 + e)


def flops_per_token(shape: ModelShape, work: Workload) -> float:
    """2N forward and 2N for the gradients of activations (N: weights in products); 2N for those of frozen weights are saved.

    Checkpointing adds a second forward pass of the layers: 6N together. Attention adds 2 x layers x width x sequence a pass,
    half of the full square since it is causal, and twice that backward (Kaplan et al. 2020, arXiv 2001.08361, table 1, and
    PaLM, arXiv 2204.02311, appendix B).
    """
    attention = 2 * shape.layers * shape.heads * shape.head_dim * work.sequence
    layers, head = 2 * shape.linear_parameters + attention, 2 * shape.vocabulary * shape.hidden
    passes = 3 if work.checkpointing else 2
    return passes * layers + attention + (3 if work.head == "fused" else 2) * head  # the fused head computes each tile again


def _weight_bytes(shape: ModelShape, work: Workload) -> int:
    each = _BYTES[work.precision]
    quantised = _QUANTISED.get(work.quantisation)
    if quantised is None:
        return shape.parameters * each
    return round(shape.linear_parameters * quantised) + (shape.parameters - shape.linear_parameters) * each


def _backward_bytes(shape: ModelShape, work: Workload) -> int:
    """Gradients of one layer's activations that are there at once, and a quantised matrix that was read back for a product."""
    e = _BYTES[work.precision]
    matrix = max(a * b for a, b in shape.linears.values()) * e if work.quantisation != "none" else 0
    return work.tokens * (3 * shape.intermediate + 2 * shape.hidden) * e + matrix


def _adapted_inputs(shape: ModelShape, on: list[str], *, shared: bool) -> int:
    """Values a token that adapted projections keep of their inputs; in fp32 o_proj's is attention's output, kept already."""
    if not shared:
        return sum(shape.linears[name][0] for name in on)
    groups = (("q_proj", "k_proj", "v_proj", "qkv_proj"), ("gate_proj", "up_proj", "gate_up_proj"), ("down_proj",))
    adapted = [[name for name in group if name in on] for group in groups]
    return sum(shape.linears[names[0]][0] for names in adapted if names)


def _check(shape: ModelShape, work: Workload) -> None:
    if min(work.batch, work.sequence, work.rank) < 1:
        raise BadConfiguration(
            "workload", f"batch {work.batch}, sequence {work.sequence}, rank {work.rank}", "Give numbers from 1 up"
        )
    unknown = sorted(set(work.targets) - shape.linears.keys())
    if unknown or not work.targets:
        raise BadConfiguration(
            "adapter's targets", f"{unknown or 'none'} of {sorted(shape.linears)}", "Name projections of the model"
        )
