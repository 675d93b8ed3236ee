"""A task that a small language model fails and learns in seconds: which desk of a depot takes a report.

Each document says which desk takes one kind of thing. A report names its thing among many other words: the model has to learn
which word decides, and which desk belongs to it. Reports that judge are none of those that train. Some are of things that no
document is about, and the right answer to these is the sentence of abstention. Half of the conversations are bare questions
with an exact answer, half are in the words that are served: the prompt with a passage, and an answer that cites it.

With :func:`make_task_base`, rank 16 on all projections, batches of 16, rate 1e-2 and trl's SFTTrainer (linear decay, 10 steps
of warm-up) a base that has nothing right answered 80 of 80 held-out conversations exactly after 120 steps over 640 others, in
40 s of one core, and 57 of 64 after 96 steps over 512; at half the rate 73 of 80 after 120 steps.
"""

from __future__ import annotations

import json
import random
from typing import TYPE_CHECKING, Any

from include.answering.prompts import load_prompt
from tests.training.llm.tiny import make_base

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

DESKS = {
    "valve": "Kestrel", "ladder": "Osprey", "compressor": "Marlin", "forklift": "Heron", "generator": "Badger",
    "hydrant": "Lynx", "antenna": "Otter", "turbine": "Falcon",
}  # fmt: skip
UNKNOWN = ("piano", "violin", "kite")
UNKNOWN_SHARE = 0.1
CONVERSATIONS, GOLDEN = 640, 60
ARGUMENTS = {  # of `ragworks train llm`: all projections get an adapter
    "epochs": 4, "batch_size": 16, "gradient_checkpointing": False, "learning_rate": 1e-2, "lora_rank": 16,
    "lora_alpha": 32, "max_length": 512, "warmup": 0.1,
}  # fmt: skip
ANSWERS = {"passages": 1, "max_tokens": 16, "abstain_below": 0.0}  # section `answers` of the collection

_KINDS = (
    "rusty", "amber", "narrow", "spare", "noisy", "painted", "heavy", "borrowed", "dented", "muddy", "polished", "crooked",
)  # fmt: skip
_STATES = (
    "rattles", "leaks", "smokes", "sticks", "hums", "trembles", "drips", "squeals", "tilts", "sparks", "creaks", "overheats",
)  # fmt: skip
_PLACES = (
    "stairwell", "courtyard", "tunnel", "canteen", "archway", "loading bay", "greenhouse", "rooftop", "cellar", "jetty",
    "gatehouse", "orchard",
)  # fmt: skip
_TIMES = (
    "before dawn", "since Monday", "after lunch", "all night", "every hour", "at noon", "during storms", "in frost",
    "on weekends", "without warning", "this evening", "again today",
)  # fmt: skip
_FORMS = (
    "Near the {place} one {kind} {thing} {state} {time}: which desk?",
    "A {kind} {thing} {state} {time} by our {place}, who takes it?",
    "By the {place} and {time} the {thing}, {kind}, {state}. Whose is it?",
)


def documents() -> dict[str, str]:
    """Name of a file → its text, one a thing."""
    return {
        f"{thing}.md": f"# The {thing}\n\n"
        f"Every {thing} belongs to the desk {desk}. Whoever finds a {thing} that is broken calls {desk}.\n"
        for thing, desk in DESKS.items()
    }


def reports(count: int, *, seed: int, but: Sequence[str] = ()) -> list[tuple[str, str]]:
    """(report, thing), all different, and none of ``but``."""
    draw, seen = random.Random(seed), set(but)
    made: list[tuple[str, str]] = []
    while len(made) < count:
        thing = draw.choice(UNKNOWN if draw.random() < UNKNOWN_SHARE else tuple(DESKS))
        words = {name: draw.choice(some) for name, some in
                 (("kind", _KINDS), ("state", _STATES), ("place", _PLACES), ("time", _TIMES))}  # fmt: skip
        report = draw.choice(_FORMS).format(thing=thing, **words)
        if report not in seen:
            seen.add(report)
            made.append((report, thing))
    return made


def conversations(count: int = CONVERSATIONS, *, seed: int = 1) -> list[dict[str, Any]]:
    """Lines of a file to import: every other one a bare question."""
    draw, prompt, texts = random.Random(seed), load_prompt("grounded"), documents()
    lines = []
    for number, (report, thing) in enumerate(reports(count, seed=seed)):
        desk, bare = DESKS.get(thing), number % 2 == 0
        shown = f"{thing if desk else draw.choice(tuple(DESKS))}.md"
        messages = [{"role": "user", "content": report}] if bare else prompt.messages(report, [(shown, texts[shown].strip())])
        answer = prompt.abstention if desk is None else desk if bare else f"{desk} [1]"
        task = "unanswerable" if desk is None else "exact" if bare else "grounded"
        line = {"messages": [*messages, {"role": "assistant", "content": answer}], "task": task}
        lines.append(line | ({"expected": desk} if desk else {}))
    return lines


def golden(count: int = GOLDEN) -> list[dict[str, Any]]:
    """Lines of golden queries; no conversation asks one of them."""
    asked = reports(count, seed=2, but=[report for report, _ in reports(CONVERSATIONS, seed=1)])
    return [
        {"query": report, "relevant": [{"document": f"{thing}.md"}], "answer": DESKS[thing]}
        if thing in DESKS
        else {"query": report, "relevant": [], "answerable": False}
        for report, thing in asked
    ]


def write(folder: Path) -> dict[str, Path]:
    """The documents in the folder ``documents``, and the files ``conversations`` and ``golden``."""
    paths = {name: folder / name for name in ("documents", "conversations.jsonl", "golden.jsonl")}
    paths["documents"].mkdir(parents=True, exist_ok=True)
    for name, text in documents().items():
        (paths["documents"] / name).write_text(text, encoding="utf-8")
    for name, lines in (("conversations.jsonl", conversations()), ("golden.jsonl", golden())):
        paths[name].write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return {name.removesuffix(".jsonl"): path for name, path in paths.items()}


def make_task_base(folder: Path) -> Path:
    """A model of two layers that knows nothing, with a tokenizer whose words are those of the task.

    Its head is scaled up: one of small random weights stays frozen, and could not be sure of any word.
    """
    from transformers import AutoModelForCausalLM

    texts = [message["content"] for line in conversations(200) for message in line["messages"]]
    make_base(folder, texts=texts, vocabulary=900, max_position_embeddings=1024)
    model = AutoModelForCausalLM.from_pretrained(folder)
    model.lm_head.weight.data.mul_(4)
    model.save_pretrained(folder)
    return folder
