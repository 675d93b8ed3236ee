"""A language model in full, in 8 and in 4 bits: size, quality and time, the tables of docs/llm-serving.md.

    python -m bench.llm_sizes            # some minutes on two cores
    python -m bench.llm_sizes --quick    # smaller models, to see that it runs

Quality: a Llama of some million parameters is taught facts, half of them as a base and all by an adapter on it; the adapter is
merged, the merged model packed by the functions of `export-llm`, and all facts are asked. Small models lose more by rounding
than large ones: measure yours (`--base FOLDER --adapter FOLDER`, on the prompts of the proofs). Time: a Llama of random
weights, greedy answers, by the processor's time, for the machine does other work too.
"""

from __future__ import annotations

import argparse
import random
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from include.registry.llm_models import TrainedLlm
from include.serving.llm.export import export_merged
from include.serving.llm.packed import PACKINGS
from include.serving.llm.reduced import load_reduced
from include.training.llm.adapters import read_adapter, write_manifest
from include.training.llm.bases import find_base, load_base, load_tokenizer
from include.training.llm.probes import distance, logits_of, probe_tokens
from tests.training.llm.tiny import make_base

if TYPE_CHECKING:
    from collections.abc import Sequence

FACTS, NEW_TOKENS, PROMPT = 64, 24, 128
TAUGHT: dict[str, Any] = {"hidden_size": 192, "intermediate_size": 512, "num_hidden_layers": 4, "num_attention_heads": 4}
TIMED: dict[str, Any] = {"hidden_size": 768, "intermediate_size": 2048, "num_hidden_layers": 10, "num_attention_heads": 12}
QUICK: dict[str, Any] = {"hidden_size": 128, "intermediate_size": 256, "num_hidden_layers": 2, "num_attention_heads": 4}


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--base", help="folder or name of a base of yours")
    parser.add_argument("--adapter", type=Path, help="folder of an adapter on it")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        if args.base and args.adapter:
            own(TrainedLlm(find_base(args.base), read_adapter(args.adapter)), place)
            return
        print("| weights | file, MB | facts known | same next token | KL, nats |\n|---|---|---|---|---|")
        quality(place, QUICK if args.quick else TAUGHT, steps=20 if args.quick else 150)
        print("\n| weights | in memory, MB | CPU s a token, 1 answer | CPU s a token, 8 together |\n|---|---|---|---|")
        timing(place, QUICK if args.quick else TIMED)


def facts() -> list[tuple[str, str]]:
    """Questions and answers, always the same."""
    draw = random.Random(7)
    return [(f"code of station {n}?", f"{draw.randrange(10_000):04d}") for n in range(FACTS)]


def quality(place: Path, shape: dict[str, Any], *, steps: int) -> None:
    """Teach, merge, pack, ask."""
    told = [f"<|user|>{question}<|end|><|assistant|>{answer}<|end|>" for question, answer in facts()]
    base = make_base(place / "base", texts=told, vocabulary=420, initializer_range=0.02, num_key_value_heads=4, **shape)
    from peft import LoraConfig, get_peft_model

    known, tokenizer = find_base(str(base)), load_tokenizer(find_base(str(base)))
    model = load_base(known)
    teach(model, tokenizer, told[: FACTS // 2], steps, rate=2e-3)
    model.save_pretrained(base)
    modules = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
    lora = LoraConfig(r=16, lora_alpha=32, target_modules=modules, task_type="CAUSAL_LM")
    adapted = get_peft_model(model, lora)
    teach(adapted, tokenizer, told, 3 * steps, rate=3e-3)
    adapted.save_pretrained(str(place / "adapter"))
    write_manifest(place / "adapter", find_base(str(base)))
    own(TrainedLlm(find_base(str(base)), read_adapter(place / "adapter")), place, facts())


def teach(model: Any, tokenizer: Any, texts: Sequence[str], steps: int, *, rate: float) -> None:
    """Train on texts, all at once in each step, whatever of the model can be trained."""
    import torch

    torch.manual_seed(0)
    batch = tokenizer(list(texts), return_tensors="pt", padding=True)
    labels = batch["input_ids"].masked_fill(batch["attention_mask"] == 0, -100)
    optimizer = torch.optim.AdamW([weight for weight in model.parameters() if weight.requires_grad], lr=rate)
    for _ in range(steps):
        model(**{key: batch[key] for key in ("input_ids", "attention_mask")}, labels=labels).loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
    model.eval()


def own(model: TrainedLlm, place: Path, asked: Sequence[tuple[str, str]] = ()) -> None:
    """A row for each size of a trained model."""
    export_merged(model, place / "full")
    tokenizer = load_tokenizer(model.base)
    probes = probe_tokens(tokenizer)
    full = load_base(find_base(str(place / "full")))
    reference = logits_of(full, probes)
    row("full", place / "full", full, tokenizer, asked, reference, reference)
    for packing in PACKINGS:
        export_merged(model, place / packing, packing=packing)
        reduced = load_reduced(place / packing)
        row(packing, place / packing, reduced, tokenizer, asked, reference, logits_of(reduced, probes))


def row(
    name: str, folder: Path, model: Any, tokenizer: Any, asked: Sequence[tuple[str, str]], reference: Any, found: Any
) -> None:
    """Print one."""
    size = sum(path.stat().st_size for path in folder.glob("*.safetensors")) / 1e6
    gap = distance(reference, found)
    right = sum(answered(model, tokenizer, question).startswith(answer) for question, answer in asked)
    known = f"{right} of {len(asked)}" if asked else ""
    print(f"| {name} | {size:.1f} | {known} | {gap['top1']:.1%} | {gap['kl']:.2g} |", flush=True)


def answered(model: Any, tokenizer: Any, question: str) -> str:
    """The greedy answer."""
    import torch

    text = tokenizer.apply_chat_template([{"role": "user", "content": question}], tokenize=False, add_generation_prompt=True)
    ids = torch.tensor([tokenizer(text, add_special_tokens=False)["input_ids"]])
    with torch.inference_mode():
        made = model.generate(input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=8, do_sample=False)
    return str(tokenizer.decode(made[0, ids.shape[1] :], skip_special_tokens=True)).strip()


def timing(place: Path, shape: dict[str, Any]) -> None:
    """Time a model of random weights, full and packed in place."""
    from include.serving.llm.packed import pack_in_place

    base = find_base(str(make_base(place / "timed", num_key_value_heads=4, initializer_range=0.02, **shape)))
    for packing in ("", *PACKINGS):
        model = load_base(base)
        held = pack_in_place(model, packing) if packing else sum(weight.nbytes for weight in model.parameters())
        alone, together = (seconds(model, rows) for rows in (1, 8))
        print(f"| {packing or 'full, float32'} | {held / 1e6:.0f} | {alone:.4f} | {together:.4f} |", flush=True)


def seconds(model: Any, rows: int) -> float:
    """Processor seconds a written token; the better of two rounds."""
    import torch

    ids = torch.randint(10, 300, (rows, PROMPT), generator=torch.Generator().manual_seed(1))
    best = float("inf")
    for _ in range(2):
        started = time.process_time()
        with torch.inference_mode():
            model.generate(
                input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=NEW_TOKENS, min_new_tokens=NEW_TOKENS,
                do_sample=False,
            )  # fmt: skip
        best = min(best, (time.process_time() - started) / (rows * NEW_TOKENS))
    return best


if __name__ == "__main__":
    main()
