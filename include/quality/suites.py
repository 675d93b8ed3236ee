"""The expectations on documents and on chunks, as functions; each carries the name that quarantine shows.

A column of texts never enters a suite where a number says the same: results are stored, texts are not.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from include.quality import gx

if TYPE_CHECKING:
    from collections.abc import Sequence

    from include.collection_file import Validation

MAX_URI_LENGTH = 2048  # what fits in a btree index entry whatever the encoding
NORM_TOLERANCE = 0.01  # embeddings are stored with unit length; halfvec keeps it to about 0.001


@dataclass(frozen=True, slots=True)
class Rule:
    """One expectation: its name in quarantine, what it says of a failing row, and Great Expectations' own object.

    :param explain: column whose value is shown for a failing row, after the sentence.
    """

    name: str
    sentence: str
    expectation: Any
    explain: str = ""


def document_rules(validation: Validation) -> Sequence[Rule]:
    """Documents: readable, unique, not empty, within limits, with the metadata that the collection requires.

    Columns: uri, duplicate_of, problem, visible_characters, size, control_characters, missing_metadata.
    """
    gxe = gx.load().expectations

    return (
        Rule("uri_unique", "", gxe.ExpectColumnValuesToBeNull(column="duplicate_of"), "duplicate_of"),
        Rule("size_within_limit", f"larger than validation.max_bytes ({validation.max_bytes:,} bytes)",
             gxe.ExpectColumnValuesToBeBetween(column="size", min_value=0, max_value=validation.max_bytes), "size"),
        Rule("readable", "", gxe.ExpectColumnValuesToBeNull(column="problem"), "problem"),
        Rule("uri_length", f"uri is empty or longer than {MAX_URI_LENGTH} characters",
             gxe.ExpectColumnValueLengthsToBeBetween(column="uri", min_value=1, max_value=MAX_URI_LENGTH)),
        Rule("text_not_empty", "holds no visible text; add some or remove the document",
             gxe.ExpectColumnValuesToBeBetween(column="visible_characters", min_value=1)),
        Rule("no_control_characters", "holds control characters (terminal colours?), remove them; count",
             gxe.ExpectColumnValuesToBeInSet(column="control_characters", value_set=[0]), "control_characters"),
        Rule("required_metadata", "lacks metadata that validation.required_metadata asks for",
             gxe.ExpectColumnValuesToBeNull(column="missing_metadata"), "missing_metadata"),
    )  # fmt: skip


def chunk_rules(*, max_tokens: int, dimension: int) -> Sequence[Rule]:
    """Chunks with their embeddings: length, span, characters, and a vector that can be searched.

    Columns: tokens, start, end, document_length, exact, text, dimension, finite, norm.
    """
    gxe = gx.load().expectations

    return (
        Rule("chunk_tokens", f"not within 1 to {max_tokens} tokens",
             gxe.ExpectColumnValuesToBeBetween(column="tokens", min_value=1, max_value=max_tokens), "tokens"),
        Rule("chunk_span_order", "ends before it starts",
             gxe.ExpectColumnPairValuesAToBeGreaterThanB(column_A="end", column_B="start")),
        Rule("chunk_span_inside", "ends after the document",
             gxe.ExpectColumnPairValuesAToBeGreaterThanB(column_A="document_length", column_B="end", or_equal=True)),
        Rule("chunk_span_exact", "is not the text of its span",
             gxe.ExpectColumnValuesToBeInSet(column="exact", value_set=[True])),
        Rule("chunk_no_control_characters", "holds control characters",
             gxe.ExpectColumnValuesToNotMatchRegex(column="text", regex=CONTROL_CHARACTERS)),
        Rule("embedding_dimension", f"does not have {dimension} dimensions",
             gxe.ExpectColumnValuesToBeInSet(column="dimension", value_set=[dimension]), "dimension"),
        Rule("embedding_finite", "has NaN or infinity in its embedding",
             gxe.ExpectColumnValuesToBeInSet(column="finite", value_set=[True])),
        Rule("embedding_norm", "has an embedding that is not of unit length",
             gxe.ExpectColumnValuesToBeBetween(column="norm", min_value=1 - NORM_TOLERANCE, max_value=1 + NORM_TOLERANCE),
             "norm"),
    )  # fmt: skip


CONTROL_CHARACTERS = r"[\x00-\x08\x0b\x0e-\x1f\x7f]"
