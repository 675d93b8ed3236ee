"""A small Llama-like model built on the spot and saved as the hub would: the real code paths in seconds, without a hub."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from include.training.llm.adapters import write_manifest
from include.training.llm.bases import find_base

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from transformers import PreTrainedTokenizerFast

TEXTS = (
    "Ragworks keeps an index in Postgres in step with documents, and answers questions from it.",
    "A run over an unchanged source embeds no text and writes no chunk.",
    "Which plan removes a document? What happens when a listing is empty?",
)
TEMPLATE = (
    "{% for message in messages %}<|{{ message['role'] }}|>{{ message['content'] }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
SPECIAL = ("<pad>", "<s>", "</s>", "<|system|>", "<|user|>", "<|assistant|>", "<|end|>")
MODULES = ["q_proj", "v_proj", "down_proj"]


def make_tokenizer(
    texts: Sequence[str] = TEXTS, *, vocabulary: int = 400, template: str | None = TEMPLATE
) -> PreTrainedTokenizerFast:
    """A byte-level BPE trained on ``texts``: every string can be written and read back."""
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    bpe.train_from_iterator(
        texts,
        trainers.BpeTrainer(
            vocab_size=vocabulary, special_tokens=list(SPECIAL), initial_alphabet=alphabet, show_progress=False
        ),
    )
    from transformers import PreTrainedTokenizerFast

    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=bpe, pad_token="<pad>", bos_token="<s>", eos_token="<|end|>", model_max_length=256
    )
    tokenizer.chat_template = template
    return tokenizer


def make_base(
    folder: Path,
    *,
    texts: Sequence[str] = TEXTS,
    seed: int = 0,
    dtype: str = "float32",
    template: str | None = TEMPLATE,
    vocabulary: int = 400,
    **config: Any,
) -> Path:
    """Save a model with random weights as a hub model lies on a disk; the same seed gives the same files.

    :param config: fields of LlamaConfig.
    """
    import torch
    from transformers import AutoModelForCausalLM, GenerationConfig, LlamaConfig

    tokenizer = make_tokenizer(texts, vocabulary=vocabulary, template=template)
    shape = {
        "max_position_embeddings": 256,
        "initializer_range": 0.1,
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
    }
    settings = LlamaConfig(
        vocab_size=len(tokenizer), bos_token_id=1, eos_token_id=tokenizer.eos_token_id, pad_token_id=0, **{**shape, **config},
    )  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = AutoModelForCausalLM.from_config(settings, dtype=getattr(torch, dtype))
    model.generation_config = GenerationConfig(bos_token_id=1, eos_token_id=tokenizer.eos_token_id, pad_token_id=0)
    model.save_pretrained(folder)
    tokenizer.model_max_length = settings.max_position_embeddings
    tokenizer.save_pretrained(folder)
    return folder


def make_adapter(
    base: Path,
    folder: Path,
    *,
    seed: int = 1,
    quantisation: str = "none",
    steps: int = 0,
    rank: int = 4,
    scale: float = 0.1,
    texts: Sequence[str] = TEXTS,
    **lora: Any,
) -> Path:
    """Save an adapter with its manifest: random weights of size ``scale``, or ``steps`` of training on ``texts``.

    :param lora: fields of LoraConfig.
    """
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    config = {"r": rank, "lora_alpha": 2 * rank, "target_modules": MODULES, "task_type": "CAUSAL_LM", "bias": "none"}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = get_peft_model(AutoModelForCausalLM.from_pretrained(base), LoraConfig(**{**config, **lora}))
        for name, weight in model.named_parameters():
            if "lora_B" in name or "lora_embedding_A" in name:  # those that begin at 0, where an adapter has no effect
                weight.data.normal_(0, scale)
            elif "magnitude" in name:
                weight.data.mul_(1 + scale * torch.randn_like(weight))
        _train(model, base, texts, steps)
    model.save_pretrained(folder)
    write_manifest(folder, find_base(str(base), quantisation=quantisation))
    return folder


def _train(model: Any, base: Path, texts: Sequence[str], steps: int) -> None:
    import torch
    from transformers import PreTrainedTokenizerFast

    tokenizer = PreTrainedTokenizerFast.from_pretrained(base)
    batch = tokenizer(list(texts), return_tensors="pt", padding=True)
    labels = batch["input_ids"].masked_fill(batch["attention_mask"] == 0, -100)
    optimizer = torch.optim.AdamW([weight for weight in model.parameters() if weight.requires_grad], lr=1e-2)
    for _ in range(steps):
        model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"], labels=labels).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
