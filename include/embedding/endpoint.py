"""Any OpenAI-compatible /embeddings endpoint, through the openai client (retries, back-off and time-outs are its own)."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from include.embedding import models
from include.embedding.embedder import TextRefused
from include.errors import BadConfiguration, ServiceUnavailable, Transient, reply_codes

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray
    from tokenizers import Tokenizer

    from include.collection_file import Embedding
    from include.config import Settings

BATCH = 128  # texts per request; OpenAI allows 2048 and 300,000 tokens
TIMEOUT = 60.0  # seconds per request
RETRIES = 5
TEXT_REFUSED = (400, 413, 422)  # may be about one text: too long, or not to a filter's liking


class EndpointEmbedder:
    """A model behind HTTP. Its weights cannot be seen: the canary strings notice when they change."""

    def __init__(
        self, embedding: Embedding, settings: Settings, *, timeout: float | None = None, retries: int | None = None
    ) -> None:
        if not embedding.base_url:
            raise BadConfiguration(
                "embedding.base_url", "the openai backend needs it", "Write base_url: https://host/v1 under embedding"
            )
        self._embedding, self._base_url, self._key = embedding, embedding.base_url, settings.embedding_api_key
        self._timeout, self._retries = timeout or TIMEOUT, RETRIES if retries is None else retries

    @cached_property
    def fingerprint(self) -> str:
        """The endpoint, the model's name and its dimension."""
        return f"openai:{self._base_url.rstrip('/')}:{self._embedding.model}:{self.dimension}:unit"

    @cached_property
    def dimension(self) -> int:
        """Asked of the endpoint, once."""
        return int(self._request(["dimension"]).shape[1])

    @property
    def max_tokens(self) -> int | None:
        """Unknown: endpoints do not say."""
        return None

    @cached_property
    def tokenizer(self) -> Tokenizer:
        """The tokenizer of ``embedding.tokenizer``: near enough to size chunks."""
        from tokenizers import Tokenizer

        tokenizer = Tokenizer.from_file(str(models.find_model(self._embedding.tokenizer) / "tokenizer.json"))
        tokenizer.no_truncation()
        tokenizer.no_padding()
        return tokenizer

    def embed_documents(self, texts: Sequence[str], progress: Callable[[int], None] | None = None) -> NDArray[np.float32]:
        """Vectors of shape (len(texts), dimension)."""
        parts = []
        for first in range(0, len(texts), BATCH):
            parts.append(self._request(texts[first : first + BATCH]))
            if progress:
                progress(len(parts[-1]))
        return np.concatenate(parts) if parts else np.empty((0, self.dimension), dtype=np.float32)

    def embed_query(self, text: str) -> NDArray[np.float32]:
        """One vector of shape (dimension,)."""
        return np.asarray(self._request([text])[0], dtype=np.float32)

    def embed_queries(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Vectors of shape (len(texts), dimension)."""
        return self.embed_documents(texts)

    @cached_property
    def _client(self) -> Any:
        import openai

        return openai.OpenAI(
            base_url=self._base_url, api_key=self._key or "none", timeout=self._timeout, max_retries=self._retries
        )

    def _request(self, texts: Sequence[str]) -> NDArray[np.float32]:
        import openai

        try:
            answer = self._client.embeddings.create(model=self._embedding.model, input=list(texts), encoding_format="float")
        except (openai.AuthenticationError, openai.PermissionDeniedError) as error:
            raise BadConfiguration(
                f"{self._base_url} refuses the key", f"status {error.status_code}", "Set RAGWORKS_EMBEDDING_API_KEY"
            ) from error
        except openai.APIConnectionError as error:  # the client's own words
            raise ServiceUnavailable(
                f"{self._base_url} does not answer", str(error), "Check embedding.base_url, try again"
            ) from error
        except openai.InternalServerError as error:
            raise ServiceUnavailable(f"{self._base_url} does not answer", reply_codes(error), "Try again later") from error
        except openai.RateLimitError as error:
            raise Transient(f"{self._base_url} is rate limited", reply_codes(error), "Try again later") from error
        except openai.APIStatusError as error:
            fix = "Check embedding.model, and whether it takes texts of chunking.max_tokens"
            refusal = TextRefused if error.status_code in TEXT_REFUSED else BadConfiguration
            raise refusal(f"{self._base_url} refuses the request", reply_codes(error), fix) from error
        vectors = np.array([row.embedding for row in sorted(answer.data, key=lambda row: row.index)], dtype=np.float32)
        if len(vectors) != len(texts):
            raise Transient(f"{self._base_url} answered {len(vectors)} vectors for {len(texts)} texts", "", "Try again later")
        norms = np.linalg.norm(vectors, axis=1, keepdims=True)
        return np.asarray(vectors / np.where(norms == 0, np.nan, norms), dtype=np.float32)
