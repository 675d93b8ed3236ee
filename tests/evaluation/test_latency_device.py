"""Latency is measured where searches of users run, also in a pod that has a GPU."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from include.embedding.device import device, nearest, on_device
from include.embedding.local import LocalEmbedder
from include.retrieval.cross_encoder import CrossEncoderReranker
from tests.evaluation.trial_models import copied, cross_encoder

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


def test_models_run_on_the_device_that_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a GPU that torch would take, both kinds of model are asked on the CPU, by threads of a pool as well."""
    monkeypatch.setattr(
        "sentence_transformers.util.get_device_name", lambda: "cuda:0"
    )  # none is here: a model that takes it fails
    embedder, reader = LocalEmbedder(str(copied(tmp_path / "e"))), CrossEncoderReranker(str(cross_encoder(tmp_path / "r")))
    assert (device(), nearest("cuda"), nearest("cpu")) == ("cuda:0", "cuda:0", "cpu")
    with on_device(nearest("cpu")), ThreadPoolExecutor(2) as threads:
        assert threads.submit(embedder.embed_query, "where do otters sleep").result().shape == (384,)
        assert len(threads.submit(reader.score, "where do otters sleep", ["afloat", "in holts"]).result()) == 2
    assert device() == "cuda:0"
