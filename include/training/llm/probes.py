"""Fixed prompts, the logits that a model gives for them, and how far two models are apart on them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    import torch

PROBES_VERSION = 1
# Prose, a question, code, figures, other scripts, an order: kept as they are, so that proofs of different days compare.
PROBES = (
    "The committee met on Tuesday and decided, after a long debate, to",
    "Question: Which document says how long retired generations are kept?\nAnswer:",
    "def merge(left: list[int], right: list[int]) -> list[int]:\n    result = []\n",
    "17 + 25 = 42; 3 * 14 = 42; 126 / 3 =",
    "Die Antwort steht in keinem der Dokumente, deshalb",
    "データベースの索引を再構築すると",
    "List three reasons, each in one short sentence:\n1.",
    "<doc id=4>Nothing is published before it was validated.</doc> According to the document,",
)
# Largest difference between two logits, as a share of the largest logit, that rounding explains: about 30 units in the last
# place for float32, where sums are merely ordered differently, and a few for the half precisions, whose every layer rounds.
TOLERANCE = {"float32": 2e-5, "float16": 1e-2, "bfloat16": 6e-2}


def probe_tokens(tokenizer: Any, prompts: Sequence[str] = PROBES) -> list[list[int]]:
    """Ids of each prompt; prompts of which the tokenizer leaves nothing are dropped."""
    return [ids for ids in (list(tokenizer(prompt)["input_ids"]) for prompt in prompts) if ids]


def logits_of(model: Any, probes: Sequence[Sequence[int]]) -> list[torch.Tensor]:
    """Logits of every position: for each probe (tokens, vocabulary), float32, on the CPU. No padding, so no mask differs."""
    import torch

    with torch.inference_mode():
        return [model(input_ids=torch.tensor([list(ids)], device=model.device)).logits[0].float().cpu() for ids in probes]


def distance(reference: Sequence[torch.Tensor], other: Sequence[torch.Tensor]) -> dict[str, float]:
    """How far ``other`` is from ``reference``, over all positions.

    :return: ``max_abs`` and ``mean_abs`` of the difference of logits, ``relative`` (largest difference by largest logit), mean
        and largest ``kl`` of the next-token distributions (reference from other, nats), ``top1``: share of positions with the
        same most likely token.
    """
    import torch

    left, right = torch.cat(list(reference)).double(), torch.cat(list(other)).double()
    gap = (left - right).abs()
    log_left, log_right = left.log_softmax(-1), right.log_softmax(-1)
    kl = (log_left.exp() * (log_left - log_right)).sum(-1).clamp(min=0)
    return {
        "positions": left.shape[0],
        "max_abs": float(gap.max()),
        "mean_abs": float(gap.mean()),
        "relative": float(gap.max() / left.abs().max().clamp(min=1e-12)),
        "kl": float(kl.mean()),
        "kl_max": float(kl.max()),
        "top1": float((left.argmax(-1) == right.argmax(-1)).double().mean()),
    }
