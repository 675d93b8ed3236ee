from __future__ import annotations

import json
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from huggingface_hub.errors import GatedRepoError

from include.embedding import models
from include.errors import BadConfiguration, ServiceUnavailable
from include.training.llm.bases import chat_template, digest_of, find_base, load_base, load_tokenizer
from tests.training.llm.tiny import TEMPLATE, make_adapter, make_base

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_base(tmp_path_factory.mktemp("base"))


def copied(folder: Path, place: Path) -> Path:
    return shutil.copytree(folder, place)


def test_the_fingerprint_names_content_and_quantisation_not_place(folder: Path, tmp_path: Path) -> None:
    base = find_base(str(folder))
    assert find_base(str(copied(folder, tmp_path / "elsewhere"))).fingerprint == base.fingerprint
    quantised = find_base(str(folder), quantisation="nf4")
    assert quantised.fingerprint == base.fingerprint.replace(":none", ":nf4")
    assert quantised.in_full() == base


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "tokenizer.json", "chat_template.jinja"])
def test_whatever_changes_what_it_says_is_another_base(folder: Path, tmp_path: Path, name: str) -> None:
    changed = copied(folder, tmp_path / "changed")
    with (changed / name).open("ab") as file:
        file.write(b" ")
    assert digest_of(changed) != digest_of(folder)


def test_a_readme_does_not_make_another_base(folder: Path, tmp_path: Path) -> None:
    same = copied(folder, tmp_path / "same")
    (same / "README.md").write_text("a model")
    assert digest_of(same) == digest_of(folder)


def test_the_chat_template_wherever_it_stands(folder: Path, tmp_path: Path) -> None:
    old = copied(folder, tmp_path / "old")
    (old / "chat_template.jinja").unlink()
    config = json.loads((old / "tokenizer_config.json").read_text())
    for stored in (TEMPLATE, [{"name": "tool_use", "template": "x"}, {"name": "default", "template": TEMPLATE}]):
        (old / "tokenizer_config.json").write_text(json.dumps({**config, "chat_template": stored}))
        assert chat_template(find_base(str(old))) == TEMPLATE
    assert chat_template(find_base(str(folder))) == TEMPLATE


def test_the_tokenizer_writes_turns(folder: Path) -> None:
    tokenizer = load_tokenizer(find_base(str(folder)))
    text = tokenizer.apply_chat_template([{"role": "user", "content": "Why?"}], tokenize=False, add_generation_prompt=True)
    assert text == "<|user|>Why?<|end|><|assistant|>"


def test_a_tokenizer_without_chat_template_is_refused_with_what_to_do(tmp_path: Path) -> None:
    base = find_base(str(make_base(tmp_path / "base", template=None)))
    with pytest.raises(BadConfiguration, match=r"no chat template.*instruction-tuned"):
        load_tokenizer(base)


def changed_config(folder: Path, place: Path, **changes: Any) -> str:
    changed = copied(folder, place)
    config = json.loads((changed / "config.json").read_text())
    (changed / "config.json").write_text(json.dumps({**config, **changes}))
    return str(changed)


def test_what_is_no_base_is_refused(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    unsafe = copied(folder, tmp_path / "unsafe")
    (unsafe / "model.safetensors").rename(unsafe / "pytorch_model.bin")
    cases = {
        "all-MiniLM-L6-v2": "it is a BertModel",
        str(make_adapter(folder, tmp_path / "adapter")): "this is an adapter",
        str(tmp_path / "empty"): "no config.json",
        str(tmp_path / "absent"): "this folder does not exist",
        str(unsafe): "other formats run code",
    }
    for name, words in cases.items():
        with pytest.raises(BadConfiguration, match=words) as caught:
            find_base(name)
        assert "base model" in caught.value.what
        assert caught.value.fix
    with pytest.raises(BadConfiguration, match=r"quantisation 'fp4'.*none, int8, nf4"):
        find_base(str(folder), quantisation="fp4")


def test_files_that_are_quantised_already_are_not_quantised_again(folder: Path, tmp_path: Path) -> None:
    name = changed_config(folder, tmp_path / "gptq", quantization_config={"quant_method": "gptq", "bits": 4})
    base = find_base(name)
    assert (base.quantisation, base.stored, base.in_full()) == ("gptq4", True, base)
    with pytest.raises(BadConfiguration, match="hold gptq4 weights already"):
        find_base(name, quantisation="nf4")


def test_a_base_that_is_neither_here_nor_reachable_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(ServiceUnavailable, match=r"base model 'nobody/nothing'.*cannot be reached"):
        find_base("nobody/nothing")


def test_a_gated_base_says_where_to_accept_its_licence(monkeypatch: pytest.MonkeyPatch) -> None:
    """The hub's own error: a gated repository answers 403."""
    answer = httpx.Response(403, request=httpx.Request("GET", "https://huggingface.co/api/models/owner/gated"))

    def refuse(*_: Any, **__: Any) -> str:
        raise GatedRepoError("Access to model owner/gated is restricted", response=answer)

    monkeypatch.setattr("huggingface_hub.snapshot_download", refuse)
    models.find_model.cache_clear()
    with pytest.raises(BadConfiguration, match=r"gated.*https://huggingface.co/owner/gated.*HF_TOKEN"):
        find_base("owner/gated")


def test_a_quantised_base_is_not_loaded_as_something_else_without_cuda(folder: Path) -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("bitsandbytes can load it here")
    with pytest.raises(BadConfiguration, match="needs a GPU with CUDA"):
        load_base(find_base(str(folder), quantisation="nf4"))


def test_finding_a_base_imports_no_torch(folder: Path) -> None:
    used = f"from include.training.llm.bases import *; chat_template(find_base({str(folder)!r}))"
    code = f"import sys; {used}; print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "False"
