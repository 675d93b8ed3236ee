from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING, Any

import pytest
from safetensors.numpy import load_file, save_file

from include.errors import BadData
from include.registry.artifacts import local_model, save_folder
from include.training.llm.adapters import CONFIG, WEIGHTS, read_adapter, write_manifest
from include.training.llm.bases import Base, find_base
from tests.training.llm.tiny import make_adapter, make_base

if TYPE_CHECKING:
    from pathlib import Path

    from include.config import Settings


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Base:
    return find_base(str(make_base(tmp_path_factory.mktemp("base"))))


@pytest.fixture(scope="module")
def original(base: Base, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_adapter(
        base.folder,
        tmp_path_factory.mktemp("original"),
        quantisation="nf4",
        rank_pattern={"v_proj": 2},
        alpha_pattern={"v_proj": 6},
    )


@pytest.fixture
def folder(original: Path, tmp_path: Path) -> Path:
    return shutil.copytree(original, tmp_path / "adapter")


def edit(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def rehash(folder: Path) -> None:
    """As somebody who also puts the hashes right."""
    from include.registry.artifacts import hashes

    edit(folder / "ragworks.json", files=hashes(folder))


def test_what_a_manifest_says(folder: Path, base: Base) -> None:
    adapter, told = read_adapter(folder), json.loads((folder / "ragworks.json").read_text())
    assert told["adapter"] == {
        "base": base.fingerprint.replace(":none", ":nf4"), "quantisation": "nf4", "rank": 4, "alpha": 8.0, "rslora": False,
        "dora": False, "features": [], "target_modules": ["down_proj", "q_proj", "v_proj"], "modules": 6,
    }  # fmt: skip
    assert set(told["files"]) >= {CONFIG, WEIGHTS}
    assert adapter.ranks["model.layers.0.self_attn.v_proj"] == 2
    assert adapter.scale("model.layers.0.self_attn.v_proj") == 3.0
    assert adapter.scale("model.layers.0.self_attn.q_proj") == 2.0


def test_the_fingerprint_is_of_weights_and_base(folder: Path, base: Base, tmp_path: Path) -> None:
    before = read_adapter(folder).fingerprint
    (folder / "README.md").write_text("notes")
    write_manifest(folder, find_base(str(base.folder), quantisation="nf4"))
    assert read_adapter(folder).fingerprint == before
    write_manifest(folder, base)
    assert read_adapter(folder).fingerprint != before


@pytest.mark.parametrize(
    ("name", "change", "words"),
    [
        (WEIGHTS, "flip", "not the file that was saved"),
        (CONFIG, {"lora_alpha": 80}, "not the file that was saved"),
        ("extra.bin", "add", "not part of it"),
        (WEIGHTS, "remove", "is missing"),
    ],
)
def test_a_changed_file_is_caught_by_its_hash(folder: Path, name: str, change: Any, words: str) -> None:
    path = folder / name
    if change == "flip":
        content = bytearray(path.read_bytes())
        content[-1] ^= 1
        path.write_bytes(content)
    elif change == "add":
        path.write_bytes(b"code")
    elif change == "remove":
        path.unlink()
    else:
        edit(path, **change)
    with pytest.raises(BadData, match=words):
        read_adapter(folder)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"r": 8}, "says rank 8 for"),
        ({"lora_alpha": 80}, "its manifest says alpha 8.0, its files say 80.0"),
        ({"use_rslora": True}, "rslora"),
        ({"modules_to_save": ["lm_head"]}, "features"),
        ({"peft_type": "VERA"}, "not of a LoRA adapter"),
    ],
)
def test_a_configuration_that_belongs_to_other_weights_is_caught_even_with_right_hashes(
    folder: Path, changes: dict[str, Any], words: str
) -> None:
    edit(folder / CONFIG, **changes)
    rehash(folder)
    with pytest.raises(BadData, match=words):
        read_adapter(folder)


def test_half_of_a_module_is_caught(folder: Path) -> None:
    weights = load_file(folder / WEIGHTS)
    del weights[next(name for name in weights if "lora_B" in name)]
    save_file(weights, folder / WEIGHTS)
    rehash(folder)
    with pytest.raises(BadData, match="has A or B alone"):
        read_adapter(folder)


@pytest.mark.parametrize("content", [None, "no json", "{}", '{"adapter": {"base": 3}, "files": {}}'])
def test_without_a_manifest_nobody_knows_the_base(folder: Path, content: str | None) -> None:
    (folder / "ragworks.json").unlink()
    if content is not None:
        (folder / "ragworks.json").write_text(content)
    with pytest.raises(BadData, match=r"ragworks.json of adapter"):
        read_adapter(folder)


def test_weights_that_are_damaged_or_a_pickle_are_refused(folder: Path, base: Base) -> None:
    (folder / WEIGHTS).write_bytes(b"\xff" * 100)
    with pytest.raises(BadData, match="cannot be read"):
        write_manifest(folder, base)
    (folder / WEIGHTS).rename(folder / "adapter_model.bin")
    with pytest.raises(BadData, match="other formats run code"):
        write_manifest(folder, base)


@pytest.mark.parametrize(
    ("lora", "feature"),
    [
        ({"modules_to_save": ["lm_head"]}, "modules_to_save"),
        ({"bias": "all"}, "bias"),
        ({"init_lora_weights": "olora"}, "init_lora_weights"),
    ],
)
def test_what_is_more_than_lora_is_named(base: Base, tmp_path: Path, lora: dict[str, Any], feature: str) -> None:
    assert read_adapter(make_adapter(base.folder, tmp_path / "adapter", **lora)).features == (feature,)


def test_an_adapter_keeps_its_manifest_in_the_store_of_artifacts(folder: Path, settings: Settings) -> None:
    before = read_adapter(folder)
    reference = save_folder(settings, folder, "models/llm/handbook/0123456789abcdef")
    from pathlib import Path

    stored = read_adapter(Path(local_model(reference, settings)), fingerprint=before.fingerprint)
    assert (stored.base, stored.ranks) == (before.base, before.ranks)
