"""The language model that was promoted, asked over HTTP: what answers must say that it is that one, base and adapter."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from include.answering.llm import LLM
from include.errors import BadConfiguration

if TYPE_CHECKING:
    from include.config import Settings
    from include.store.deployments import Deployment

_NAME = re.compile(r"ragworks-(?P<collection>[a-z][a-z0-9_]*)(@(?P<version>\d+))?")
_SHOWN = 32  # hexadecimal digits of an adapter's fingerprint in a system_fingerprint


def model_name(collection: str, version: int | None = None) -> str:
    """What a server calls the champion of a collection; with ``version`` that one, whatever is promoted meanwhile."""
    return f"ragworks-{collection}" if version is None else f"ragworks-{collection}@{version}"


def parsed_name(model: str) -> tuple[str, int | None] | None:
    """Collection and version of a name; None when it is no such name."""
    found = _NAME.fullmatch(model)
    return (found["collection"], int(found["version"]) if found["version"] else None) if found else None


def system_fingerprint(base: str, adapter: str) -> str:
    """What a reply says of its maker.

    :param base: fingerprint of the base in the precision in which it runs; ``adapter`` that of the adapter.
    """
    return f"{base}+{adapter[:_SHOWN]}"


@dataclass(frozen=True, slots=True)
class Maker:
    """What was promoted, as its deployment names it.

    :param base: its name, ``base_fingerprint`` with the quantisation that it was trained on; ``adapter``: its fingerprint.
    """

    collection: str
    version: int
    base: str
    base_fingerprint: str
    adapter: str
    artifact: str

    @classmethod
    def of(cls, collection: str, deployment: Deployment) -> Maker:
        """The model of a live deployment."""
        facts = deployment.settings
        return cls(
            collection, deployment.version or 0, str(facts.get("base", "")), str(facts.get("base_fingerprint", "")),
            str(facts.get("fingerprint", "")), deployment.artifact or "",
        )  # fmt: skip

    def made(self, fingerprint: str) -> bool:
        """Whether a reply with this system_fingerprint is its; in which precision the base ran is the server's to choose."""
        base, _, adapter = fingerprint.partition("+")
        return base.rpartition(":")[0] == self.base_fingerprint.rpartition(":")[0] and adapter == self.adapter[:_SHOWN]


class ChampionLLM(LLM):
    """A promoted version behind the server of champions; it is asked for by number, so that a swap mixes nothing."""

    def __init__(self, settings: Settings, maker: Maker) -> None:
        super().__init__(settings.llm_server, model_name(maker.collection, maker.version), settings.llm_server_key)
        self.maker = maker
        self._fixes = (
            f"Start it: ragworks serve-llm {maker.collection}. Or set RAGWORKS_LLM_SERVER to where the champion is served",
            "Set RAGWORKS_LLM_SERVER_KEY to the key of that server",
            "See its log; or go back: ragworks rollback-model llm --collection " + maker.collection,
        )

    @property
    def facts(self) -> dict[str, Any]:
        """Model and address, version, base and adapter."""
        maker = self.maker
        return {
            **super().facts, "version": maker.version, "base": maker.base, "base_fingerprint": maker.base_fingerprint,
            "adapter": maker.adapter, "artifact": maker.artifact,
        }  # fmt: skip

    def _check(self, reply: Any) -> None:
        """:raises BadConfiguration: another model answered than the one that the passport would name."""
        said = getattr(reply, "system_fingerprint", None) or ""
        if reply.model == self.model and (not said.startswith("llm:") or self.maker.made(said)):
            return
        raise BadConfiguration(
            f"{self.base_url} answered with {reply.model} {said}".rstrip(),
            f"asked was {self.model}, adapter {self.maker.adapter[:_SHOWN]} on {self.maker.base_fingerprint}",
            "Is that server of the same database and RAGWORKS_ENV? vLLM needs the manifest of this version: export-llm",
        )
