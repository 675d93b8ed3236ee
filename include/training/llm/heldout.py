"""What a model makes of conversations that it was not trained on: the loss of their answers, and which of two it prefers."""

from __future__ import annotations

import hashlib
import math
from typing import TYPE_CHECKING, Any

from include.training.llm.examples import IGNORED

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from include.training.job import Job
    from include.training.llm.examples import Example

TOKENS = 4096  # of a batch, padding included; one sequence may be longer


def answer_losses(
    model: Any, sequences: Sequence[tuple[Sequence[int], Sequence[int]]], *, said: Callable[[int], object] | None = None
) -> list[tuple[float, int]]:
    """Negative log-likelihood of each answer, summed in nats, and how many tokens it has.

    The model is left as it was found, training or not. Logits are made of answers alone.

    :param sequences: (prompt, answer) in tokens.
    :param said: told after each batch how many sequences it had; it may raise.
    """
    import torch

    found: list[tuple[float, int]] = [(0.0, 0)] * len(sequences)
    was_training = model.training
    model.eval()
    try:
        with torch.no_grad():
            for batch in _batches(sequences):
                losses = _losses(model, [sequences[place] for place in batch])
                for place, one in zip(batch, losses, strict=True):
                    found[place] = one
                if said is not None:
                    said(len(batch))
    finally:
        model.train(was_training)
    return found


class HeldOutLoss:
    """Mean loss of an answer's token on development conversations: of trainings by conversations."""

    def __init__(self, job: Job, model: Any, examples: Sequence[Example]) -> None:
        self._job, self._model = job, model
        self._sequences = [(one.prompt, one.answer) for one in examples]

    @property
    def fingerprint(self) -> str:
        """Of all tokens."""
        return fingerprint_of(self._sequences)

    def __call__(self) -> dict[str, float]:
        """``loss`` in nats a token, and its exponential."""
        losses = answer_losses(self._model, self._sequences, said=_shown(self._job, len(self._sequences)))
        loss = sum(one for one, _ in losses) / max(1, sum(count for _, count in losses))
        return {"loss": loss, "perplexity": math.exp(min(loss, 50.0))}


class HeldOutPreference:
    """The loss of DPO on development pairs, against the model as it is when this is made, which is what training starts from.

    The loss of the better answer alone would not do: preference training may well make both answers less likely
    (Rafailov et al. 2023, arXiv 2305.18290, equation 7).
    """

    def __init__(self, job: Job, model: Any, examples: Sequence[Example], *, beta: float) -> None:
        self._job, self._model, self._beta, self._count = job, model, beta, len(examples)
        self._sequences = [(one.prompt, answer) for one in examples for answer in (one.answer, one.rejected)]
        self._answered = sum(len(one.answer) for one in examples)
        self._reference = self._log_likelihoods()

    @property
    def fingerprint(self) -> str:
        """Of all tokens."""
        return fingerprint_of(self._sequences)

    def __call__(self) -> dict[str, float]:
        """``loss`` of DPO; the share of pairs in which the better answer gained more; the better answers' loss a token."""
        now = self._log_likelihoods()
        gained = [new - old for new, old in zip(now, self._reference, strict=True)]
        margins = [self._beta * (better - worse) for better, worse in zip(gained[::2], gained[1::2], strict=True)]
        loss = sum(max(0.0, -x) + math.log1p(math.exp(-abs(x))) for x in margins) / self._count  # -log(sigmoid), no overflow
        return {
            "loss": loss,
            "preferred": sum(margin > 0 for margin in margins) / self._count,
            "answer_loss": -sum(now[::2]) / max(1, self._answered),
        }

    def _log_likelihoods(self) -> list[float]:
        losses = answer_losses(self._model, self._sequences, said=_shown(self._job, len(self._sequences)))
        return [-loss for loss, _ in losses]


def fingerprint_of(sequences: Sequence[tuple[Sequence[int], Sequence[int]]]) -> str:
    """Of tokens: scores on others cannot be compared."""
    digest = hashlib.blake2b(digest_size=16)
    for prompt, answer in sequences:
        digest.update(f"{list(prompt)}{list(answer)}\n".encode())
    return digest.hexdigest()


def _batches(sequences: Sequence[tuple[Sequence[int], Sequence[int]]]) -> list[list[int]]:
    """Places of sequences of like length together, at most TOKENS with their padding; the same for the same lengths."""
    lengths = [len(prompt) + len(answer) for prompt, answer in sequences]
    batches: list[list[int]] = []
    for place in sorted(range(len(sequences)), key=lambda one: (-lengths[one], one)):
        if batches and (len(batches[-1]) + 1) * lengths[batches[-1][0]] <= TOKENS:
            batches[-1].append(place)
        else:
            batches.append([place])
    return batches


def _losses(model: Any, sequences: Sequence[tuple[Sequence[int], Sequence[int]]]) -> list[tuple[float, int]]:
    import torch
    from torch.nn.functional import cross_entropy

    device = next(model.parameters()).device
    width = max(len(prompt) + len(answer) for prompt, answer in sequences)
    first = min(len(prompt) for prompt, _ in sequences)
    ids = torch.zeros(len(sequences), width, dtype=torch.long)
    mask, labels = torch.zeros_like(ids), torch.full_like(ids, IGNORED)
    for row, (prompt, answer) in enumerate(sequences):
        size = len(prompt) + len(answer)
        ids[row, :size], mask[row, :size] = torch.tensor([*prompt, *answer]), 1
        labels[row, max(1, len(prompt)) : size] = torch.tensor(list(answer)[max(0, 1 - len(prompt)) :])
    keep = torch.arange(max(first - 1, 0), width - 1, device=device)  # the token before an answer's says its first
    logits = model(input_ids=ids.to(device), attention_mask=mask.to(device), logits_to_keep=keep, use_cache=False).logits
    wanted = labels[:, max(first, 1) : width].to(device)
    each = cross_entropy(logits.float().transpose(1, 2), wanted, ignore_index=IGNORED, reduction="none")
    counts = (wanted != IGNORED).sum(dim=1)
    return [(float(loss), int(count)) for loss, count in zip(each.double().sum(dim=1), counts, strict=True)]


def _shown(job: Job, total: int) -> Callable[[int], object]:
    job.progress.step("score conversations", total)

    def said(count: int) -> None:
        job.interruption.check()
        job.progress.advance(count)

    return said
