"""What may be asked. Our own requests refuse fields they do not know; those of others' shapes ignore what does not apply."""

from __future__ import annotations

from typing import Annotated, Any, Literal
from uuid import UUID  # noqa: TC003 - pydantic reads it

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from include.collection_file import Mode  # noqa: TC001 - pydantic reads it

MAX_TOP_K, MAX_DOCUMENTS, MAX_INPUTS = 200, 1000, 256


def _storable(text: str) -> str:
    """Postgres stores no NUL, and UTF-8 has no half of a surrogate pair."""
    if "\x00" in text:
        raise ValueError("the character NUL is not allowed")
    text.encode("utf-8")
    return text


Text = Annotated[str, AfterValidator(_storable)]
Name = Annotated[Text, Field(min_length=1, max_length=200)]
Scalar = Text | bool | int | Annotated[float, Field(allow_inf_nan=False)] | None
Filter = Annotated[
    dict[Name, Scalar | Annotated[list[Scalar], Field(max_length=100)]],
    Field(max_length=20, description="metadata that must match; a list means any of its values"),
]
Principals = Annotated[
    Annotated[list[Name], Field(max_length=100)] | None,
    Field(description="for whom documents with an access list are seen; needs the scope act_as"),
]
Rerank = Annotated[bool | None, Field(description="true demands the second stage, false leaves it out")]


class _Own(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class _Theirs(BaseModel):
    model_config = ConfigDict(extra="ignore", strict=True)


class SearchRequest(_Own):
    """A question to a collection."""

    collection: Name
    query: Annotated[Text, Field(min_length=1)]
    top_k: Annotated[int, Field(ge=1, le=MAX_TOP_K)] = 10
    mode: Mode | None = None
    filter: Filter = {}
    rerank: Rerank = None
    copies: Annotated[bool, Field(description="show also passages that say the same as a better one")] = False
    principals: Principals = None

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"collection": "handbook", "query": "how do I undo a release?", "top_k": 3}]}
    )


class TextDocument(_Theirs):
    """A document as an object."""

    text: Text


class RerankRequest(_Theirs):
    """Texts to put into order, in the shape of Cohere's and Jina's rerank."""

    model: Annotated[Name, Field(description="a collection, or a reranker that a collection's settings name")]
    query: Annotated[Text, Field(min_length=1)]
    documents: Annotated[list[Text | TextDocument], Field(min_length=1, max_length=MAX_DOCUMENTS)]
    top_n: Annotated[int | None, Field(ge=1)] = None
    return_documents: bool = False

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"model": "handbook", "query": "kangaroo", "documents": ["Light is fast.", "Kangaroos hop."]}]
        }
    )

    @property
    def texts(self) -> list[str]:
        """The documents' texts."""
        return [document if isinstance(document, str) else document.text for document in self.documents]


class EmbeddingsRequest(_Theirs):
    """Texts to embed with the model of a collection's live index, in OpenAI's shape."""

    model: Annotated[Name, Field(description="a collection")]
    input: Annotated[Text | list[Any], Field(description=f"a text, or up to {MAX_INPUTS}; token arrays are refused")]
    encoding_format: Literal["float", "base64"] = "float"
    dimensions: Annotated[int | None, Field(ge=1, description="must be the model's own")] = None
    input_type: Annotated[
        Literal["query", "document"], Field(description="what the texts are; matters to models with prompts")
    ] = "query"

    model_config = ConfigDict(json_schema_extra={"examples": [{"model": "handbook", "input": ["which animal hops?"]}]})

    @property
    def texts(self) -> list[str]:
        """The texts, one or many."""
        return [self.input] if isinstance(self.input, str) else self.input

    @model_validator(mode="after")
    def _texts_alone(self) -> EmbeddingsRequest:
        if not self.texts or len(self.texts) > MAX_INPUTS:
            raise ValueError(f"input: give 1 to {MAX_INPUTS} texts")
        if any(isinstance(one, int | list) for one in self.texts):
            raise ValueError("input: token arrays are not understood, as models differ in their tokens; send texts")
        if any(not isinstance(one, str) or not one for one in self.texts):
            raise ValueError("input: every entry must be a text, and not an empty one")
        for one in self.texts:
            _storable(one)
        return self


class TextPart(_Theirs):
    """A part of a message."""

    type: Literal["text"]
    text: Text


class Message(_Theirs):
    """One turn of a conversation."""

    role: Literal["system", "developer", "user", "assistant", "tool", "function"]
    content: Text | list[TextPart] | None = None

    @property
    def text(self) -> str:
        """Its parts together."""
        if isinstance(self.content, list):
            return "\n".join(part.text for part in self.content)
        return self.content or ""


class StreamOptions(_Theirs):
    """What a stream ends with."""

    include_usage: bool = False


class ChatRequest(_Theirs):
    """A question to be answered from a collection, in OpenAI's shape; the last user message is the question."""

    model: Annotated[Name, Field(description="a collection")]
    messages: Annotated[list[Message], Field(min_length=1, max_length=1000)]
    stream: bool | None = False
    stream_options: StreamOptions | None = None
    n: Literal[1] | None = None
    temperature: Annotated[float | None, Field(ge=0, le=2)] = None
    max_tokens: Annotated[int | None, Field(ge=1)] = None
    max_completion_tokens: Annotated[int | None, Field(ge=1)] = None
    tools: Annotated[list[Any] | None, Field(max_length=0, description="not understood")] = None
    mode: Mode | None = None
    filter: Filter = {}
    rerank: Rerank = None
    principals: Principals = None

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"model": "handbook", "messages": [{"role": "user", "content": "Which animal carries its young?"}]}]
        }
    )

    @property
    def question(self) -> str:
        """The last user message; empty when there is none."""
        return next((message.text for message in reversed(self.messages) if message.role == "user"), "").strip()


class FeedbackRequest(_Own):
    """What somebody thought of a result; at least one of thumb, answer, document and comment."""

    query_id: Annotated[UUID, Field(strict=False, description="the id in the passport")]
    thumb: Annotated[Literal[-1, 1] | None, Field(description="1 up, -1 down")] = None
    answer: Annotated[Text | None, Field(max_length=20_000, description="what would have been right")] = None
    document: Annotated[Text | None, Field(max_length=4000, description="where it stands")] = None
    start: Annotated[int | None, Field(ge=0, lt=2**31, description="its first character")] = None
    end: Annotated[int | None, Field(ge=0, lt=2**31, description="after its last character")] = None
    comment: Annotated[Text | None, Field(max_length=20_000)] = None

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"query_id": "6c1f7f0e-3f0d-4c3a-9a51-0d7a0f4a1c11", "thumb": 1}]}
    )

    @model_validator(mode="after")
    def _something(self) -> FeedbackRequest:
        if self.thumb is None and not (self.answer or self.document or self.comment):
            raise ValueError("give at least one of thumb, answer, document and comment")
        if (self.start is None) != (self.end is None):
            raise ValueError("start and end belong together")
        if self.start is not None and (self.document is None or self.end is None or self.end <= self.start):
            raise ValueError("a span needs a document, and an end after its start")
        return self
