"""Whether a model can still be asked, told within a second: its files are looked for, nothing is loaded or downloaded."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from include.embedding import models
from include.embedding.embedder import TRAINED
from include.errors import BadConfiguration

if TYPE_CHECKING:
    from include.collection_file import Embedding
    from include.config import Settings

ANSWER_SECONDS = 5.0  # an endpoint is asked once: who goes back is in a hurry
HASHED_BYTES = 400_000_000  # of a larger model the files are not read: that takes a second and more
_WEIGHTS = ("*.safetensors", "*.bin")


def check_there(fingerprint: str, embedding: Embedding, settings: Settings) -> None:
    """Look for the model that vectors were made with.

    :param fingerprint: of the generation; compared with that of an endpoint, and of files up to HASHED_BYTES.
    :raises BadConfiguration: it is not there, or its files changed.
    :raises BadData: it is a trained one whose manifest is damaged.
    :raises ServiceUnavailable: its endpoint does not answer.
    """
    if embedding.backend == "openai":
        from include.embedding.endpoint import EndpointEmbedder

        _compare(EndpointEmbedder(embedding, settings, timeout=ANSWER_SECONDS, retries=0).fingerprint, fingerprint, embedding)
    elif embedding.model.startswith(TRAINED):
        from include.registry.artifacts import read_manifest

        read_manifest(embedding.model, settings)
    elif (folder := _folder(embedding.model)) is not None:
        weights = [path for pattern in _WEIGHTS for path in folder.rglob(pattern)]
        if not weights:
            raise _gone(embedding, f"{folder} holds no weights")
        if sum(path.stat().st_size for path in weights) <= HASHED_BYTES:
            from include.embedding.local import LocalEmbedder

            _compare(LocalEmbedder(embedding.model).fingerprint, fingerprint, embedding)


def _folder(model: str) -> Path | None:
    """Where its files lie; None of one that the hub has, and that is downloaded when it is first asked."""
    if model in models.PACKAGED or Path(model).expanduser().is_dir() or model.startswith(("/", ".", "~")):
        return models.find_model(model)
    from huggingface_hub import constants, snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(model, local_files_only=True))
    except (LocalEntryNotFoundError, HFValidationError) as error:
        if constants.HF_HUB_OFFLINE:
            why = "it is not on this machine, and HF_HUB_OFFLINE forbids to download it"
            raise BadConfiguration(f"the model {model!r} is not there", why, "Bring it back") from error
        return None


def _compare(found: str, fingerprint: str, embedding: Embedding) -> None:
    if found != fingerprint:
        raise _gone(embedding, "what is there now is another one")


def _gone(embedding: Embedding, why: str) -> BadConfiguration:
    return BadConfiguration(f"the model {embedding.model!r} is not there any more", why, "Bring it back")
