"""Puts the prompts into MLflow's registry, for people who look there; answering never needs it."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from include.answering.prompts import FOLDER, Prompt, load_prompt, prompt_names
from include.registry.mlflow_client import mlflow_client

if TYPE_CHECKING:
    from pathlib import Path

    from include.config import Settings

logger = logging.getLogger(__name__)

HASH = "content_hash"  # the tag by which a version is known to be there already


def register_prompts(settings: Settings, folder: Path = FOLDER) -> dict[str, int]:
    """Register every prompt whose content the registry does not have yet; twice changes nothing.

    :return: MLflow's version number of each, by the prompt's name.
    """
    client = mlflow_client(settings)
    return {name: _register(client, load_prompt(name, folder)) for name in prompt_names(folder)}


def _register(client: Any, prompt: Prompt) -> int:
    name = f"ragworks-{prompt.name}"
    for known in _versions(client, name):
        if known.tags.get(HASH) == prompt.version:
            return int(known.version)
    template = [{"role": "system", "content": prompt.system}, {"role": "user", "content": prompt.user}]
    tags = {HASH: prompt.version, "abstention": prompt.abstention}
    version = int(client.register_prompt(name, template, commit_message=f"content {prompt.version}", tags=tags).version)
    logger.info("prompt %s registered as version %d", name, version)
    return version


def _versions(client: Any, name: str) -> list[Any]:
    """From the newest back to the first; versions count up from 1 and are never changed."""
    newest = client.get_prompt_version_by_alias(name, "latest") if client.get_prompt(name) else None
    return [client.get_prompt_version(name, n) for n in range(int(newest.version), 0, -1)] if newest else []
