"""The model that is fine-tuned: which one exactly, and what of it must be there before a GPU is asked for.

An adapter is worth something on one base alone: the same weights, configuration and tokenizer, in the same precision. That
is what the fingerprint says. Nothing here imports torch before a model is loaded.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from include.embedding.models import find_model, fingerprint, read_json
from include.errors import BadConfiguration, ServiceUnavailable

if TYPE_CHECKING:
    from pathlib import Path

QUANTISATIONS = ("none", "int8", "nf4")
_INSTRUCT = (
    "Take the instruction-tuned model (often named …-Instruct), or put its template beside the tokenizer as chat_template.jinja"
)


@dataclass(frozen=True, slots=True)
class Base:
    """A base model on this machine.

    :param name: as it was asked for.
    :param digest: of weights, configuration, tokenizer and chat template.
    :param quantisation: how its weights are held while an adapter is trained on it: none, int8, nf4, or what its files say.
    :param stored: whether the files themselves are quantised.
    """

    name: str
    folder: Path
    digest: str
    quantisation: str = "none"
    stored: bool = False

    @property
    def fingerprint(self) -> str:
        """The identity that adapters keep; quantisation is part of it."""
        return f"llm:{self.digest}:{self.quantisation}"

    def in_full(self) -> Base:
        """The same model without quantisation."""
        return self if self.stored else replace(self, quantisation="none")


def find_base(name: str, *, quantisation: str = "none") -> Base:
    """The base of this name: a folder, or a model on the hub that is downloaded once.

    :param quantisation: one of QUANTISATIONS.
    :raises BadConfiguration: no such model, gated, not a causal language model, or quantised twice.
    :raises ServiceUnavailable: the hub does not answer and no copy is here.
    """
    if quantisation not in QUANTISATIONS:
        raise BadConfiguration(f"quantisation {quantisation!r}", "it is unknown", f"Use one of {', '.join(QUANTISATIONS)}")
    folder = _found(name)
    config = _checked_config(name, folder)
    stored = _stored_quantisation(config)
    if stored and quantisation != "none":
        raise BadConfiguration(
            f"base model {name!r}", f"its files hold {stored} weights already, so they cannot be quantised to {quantisation}",
            "Take the full-precision model, or leave the quantisation out",
        )  # fmt: skip
    return Base(name, folder, digest_of(folder), stored or quantisation, bool(stored))


def digest_of(folder: Path) -> str:
    """Of all that changes what the model reads and says: as the embedder's, and the chat template, a file of its own."""
    digest = hashlib.blake2b(fingerprint(folder).encode(), digest_size=16)
    for path in sorted(folder.rglob("*.jinja")):
        digest.update(path.relative_to(folder).as_posix().encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


def chat_template(base: Base) -> str:
    """The template that turns a conversation into text, without loading the tokenizer.

    :raises BadConfiguration: the tokenizer has none.
    """
    file = base.folder / "chat_template.jinja"
    if file.is_file():
        return file.read_text(encoding="utf-8")
    for name in ("tokenizer_config.json", "chat_template.json"):  # where it stood before transformers 5, and of processors
        found = read_json(base.folder, name).get("chat_template")
        if isinstance(found, list):  # several, by name
            found = {one["name"]: one["template"] for one in found}.get("default")
        if found:
            return str(found)
    raise BadConfiguration(
        f"base model {base.name!r}", "its tokenizer has no chat template, so nobody knows how it writes turns", _INSTRUCT
    )


def load_tokenizer(base: Base) -> Any:
    """Its tokenizer, which has a chat template.

    :raises BadConfiguration: it has none, or cannot be read.
    """
    chat_template(base)
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(str(base.folder), local_files_only=True)
    except (OSError, ValueError, KeyError) as error:
        raise BadConfiguration(
            f"tokenizer of base model {base.name!r}", f"it cannot be read ({error})", "Download it again"
        ) from error


def load_base(base: Base, *, dtype: str = "auto", device: str = "cpu") -> Any:
    """The model, in evaluation mode and with SDPA attention; by bitsandbytes where it is quantised.

    :param dtype: ``auto``: that of its files.
    :raises BadConfiguration: quantised without CUDA, which would be silently slow or another arithmetic.
    """
    import torch
    from transformers import AutoModelForCausalLM

    options: dict[str, Any] = {"dtype": dtype if dtype == "auto" else getattr(torch, dtype)}
    if base.quantisation in ("int8", "nf4"):
        options |= {"quantization_config": _bitsandbytes(base), "device_map": {"": device}}
    try:
        model = AutoModelForCausalLM.from_pretrained(str(base.folder), local_files_only=True, **options)
    except (OSError, ValueError, KeyError) as error:
        raise BadConfiguration(f"base model {base.name!r}", f"it cannot be loaded ({error})", "Download it again") from error
    return (model if "device_map" in options else model.to(device)).eval()


def plain_generation(model: Any, tokenizer: Any) -> frozenset[int]:
    """Have ``generate`` write what the model says, without penalties and lists of tokens that the base's files may ask for.

    transformers fills in from ``model.generation_config`` whatever a call leaves out, so it is replaced.

    :return: tokens that end an answer: the model's and the tokenizer's, for either may be the one that ends a turn.
    """
    from transformers import GenerationConfig

    named = getattr(model.generation_config, "eos_token_id", None)
    found = [*(named if isinstance(named, list) else [named]), tokenizer.eos_token_id]
    ends = frozenset(int(token) for token in found if token is not None)
    padding = next((token for token in (tokenizer.pad_token_id, *sorted(ends)) if token is not None), 0)
    model.generation_config = GenerationConfig(eos_token_id=sorted(ends) or None, pad_token_id=padding, do_sample=False)
    return ends


def _bitsandbytes(base: Base) -> Any:
    import torch
    from transformers import BitsAndBytesConfig

    if not torch.cuda.is_available():
        raise BadConfiguration(
            f"base model {base.name!r} as {base.quantisation}", "bitsandbytes needs a GPU with CUDA, and none is here",
            "Train and load with quantisation none here; include.training.llm.quantised measures what quantising would change",
        )  # fmt: skip
    if base.quantisation == "int8":
        return BitsAndBytesConfig(load_in_8bit=True)
    return BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True, bnb_4bit_compute_dtype=torch.bfloat16
    )  # as QLoRA: Dettmers et al. 2023, arXiv 2305.14314


def _found(name: str) -> Path:
    from huggingface_hub.errors import GatedRepoError

    try:
        return find_model(name)
    except BadConfiguration as error:
        if isinstance(error.__cause__, GatedRepoError):
            raise BadConfiguration(
                f"base model {name!r}", "it is gated: its owner wants a licence accepted",
                f"Accept it at https://huggingface.co/{name}, and set HF_TOKEN to a token of that account",
            ) from error  # fmt: skip
        fix = "Give a folder that holds a model, or its name on the hub; for a private one set HF_TOKEN"
        raise BadConfiguration(f"base model {name!r}", error.why, fix) from error
    except ServiceUnavailable as error:
        raise ServiceUnavailable(
            f"base model {name!r}", error.why, "Check the network or HF_HUB_OFFLINE, or give a folder"
        ) from error


def _checked_config(name: str, folder: Path) -> dict[str, Any]:
    what = f"base model {name!r}"
    if (folder / "adapter_config.json").is_file():
        raise BadConfiguration(what, "this is an adapter, not a model", "Name its base, and start from the adapter")
    config = read_json(folder, "config.json")
    kinds = [str(kind) for kind in config.get("architectures") or []]
    if not any("CausalLM" in kind or "LMHead" in kind for kind in kinds):
        why = f"it is a {kinds[0]}" if kinds else "its folder has no config.json that says what it is"
        raise BadConfiguration(
            what, f"{why}, and answers are written by causal language models", "Choose one that ends in ForCausalLM"
        )
    if not any(folder.glob("*.safetensors")):
        raise BadConfiguration(
            what, "it has no weights in safetensors; other formats run code when they are read", "Convert it, or choose another"
        )
    return config


def _stored_quantisation(config: dict[str, Any]) -> str:
    stored = config.get("quantization_config") or {}
    if not stored:
        return ""
    bits = stored.get("bits") or (4 if stored.get("load_in_4bit") else 8 if stored.get("load_in_8bit") else "")
    return f"{stored.get('quant_method', 'unknown')}{bits}"
