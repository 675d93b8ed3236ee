"""How one server of language models runs: the options of `serve-llm`."""

from __future__ import annotations

from dataclasses import dataclass

from include.errors import BadConfiguration
from include.serving.options import is_loopback

PRECISIONS = ("full", "int8", "nf4")
TARGETS = ("vllm", "files", "merged", "int8", "nf4")  # of `export-llm`


@dataclass(frozen=True, slots=True)
class LlmOptions:
    """What `serve-llm` was told.

    :param collections: whose champions are served; empty: all that have one.
    :param precision: of the base's weights, whatever the adapter was trained on; ``full``: as in its files.
    :param device: ``auto``: a GPU where there is one.
    :param batch: answers that are written together.
    :param adapters: versions that are kept ready on a base.
    :param waiting: requests that may wait for each base; beyond it 429.
    :param max_body: bytes of a request.
    """

    host: str = "127.0.0.1"
    port: int = 8010
    collections: tuple[str, ...] = ()
    precision: str = "full"
    device: str = "auto"
    batch: int = 8
    adapters: int = 8
    waiting: int = 64
    max_body: int = 2_000_000

    def check(self, key: str | None) -> None:
        """Refuse to be open to a network without a key.

        :raises BadConfiguration: another address than loopback, and no key.
        """
        if key is None and not is_loopback(self.host):
            raise BadConfiguration(
                f"serve-llm on {self.host}", "everybody on the network could use the models",
                "Serve on 127.0.0.1, or set RAGWORKS_LLM_SERVER_KEY here and where `ragworks serve` runs",
            )  # fmt: skip
