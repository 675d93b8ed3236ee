"""What writes for the gate and what serves say the same: what the model finds likeliest, whatever the base's files ask for."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

from include.evaluation.llm.writer import Writer
from include.serving.llm.engine import Engine
from include.serving.llm.writing import Ask, Ended
from include.training.llm.adapters import read_adapter
from include.training.llm.bases import Base, find_base, load_base, load_tokenizer
from include.training.llm.merging import with_adapters
from tests.training.llm.tiny import make_adapter, make_base

if TYPE_CHECKING:
    from pathlib import Path

    from include.training.llm.adapters import Adapter

ASKED = [{"role": "user", "content": "Which plan removes a document?"}]
WORDS = 24


def _likeliest(base: Base, adapter: Adapter, count: int) -> list[int]:
    """Tokens one by one, by the logits alone."""
    import torch

    tokenizer = load_tokenizer(base)
    text = tokenizer.apply_chat_template(ASKED, tokenize=False, add_generation_prompt=True)
    ids = list(tokenizer(text, add_special_tokens=False)["input_ids"])
    model, first = with_adapters(load_base(base), [adapter]), len(ids)
    for _ in range(count):
        with torch.inference_mode():
            ids.append(int(model(input_ids=torch.tensor([ids])).logits[0, -1].argmax()))
    return ids[first:]


def _served(base: Base, adapter: Adapter) -> str:
    engine, said, over = Engine(base), list[str](), threading.Event()

    def put(piece: str | Ended | Exception) -> None:
        if isinstance(piece, str):
            said.append(piece)
        else:
            over.set()

    try:
        name = engine.load(adapter)
        assert engine.submit(Ask(name, engine.tokens(ASKED), WORDS, put, temperature=0))
        assert over.wait(30)
    finally:
        engine.close()
    return "".join(said).strip()


def test_penalties_of_the_base_are_not_applied_and_each_ends_at_the_same_token(tmp_path: Path) -> None:
    from transformers import GenerationConfig

    folder = make_base(tmp_path / "base")
    adapter = read_adapter(make_adapter(folder, tmp_path / "adapter"))
    likeliest = _likeliest(find_base(str(folder)), adapter, WORDS)
    ending = likeliest[10]  # the files call it one that ends a turn; the tokenizer has its own
    asked: dict[str, Any] = {"repetition_penalty": 5.0, "no_repeat_ngram_size": 1, "suppress_tokens": likeliest[:1]}
    GenerationConfig(eos_token_id=[ending], pad_token_id=0, **asked).save_pretrained(folder)

    base = find_base(str(folder))
    tokenizer = load_tokenizer(base)
    known = next(n for n, token in enumerate(likeliest) if token in (ending, tokenizer.eos_token_id))
    expected = tokenizer.decode(likeliest[:known], skip_special_tokens=True).strip()
    assert _served(base, adapter) == expected
    assert Writer(base, {"one": adapter}).write("one", ASKED, WORDS).text == expected
