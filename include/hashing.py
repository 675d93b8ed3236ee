"""Content addresses: 128-bit BLAKE2b, stored as uuid (16 bytes; a chance collision needs about 2**64 texts)."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any
from uuid import UUID

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


def text_hash(text: str) -> UUID:
    """Address of a text."""
    return UUID(bytes=hashlib.blake2b(text.encode("utf-8"), digest_size=16).digest())


def version_hash(content: UUID, metadata: Mapping[str, Any], acl: Sequence[str] | None) -> UUID:
    """Address of a document's version: content, metadata and ACL; key order and ACL order do not matter."""
    readers = None if acl is None else sorted(set(acl))
    return text_hash(canonical_json([str(content), metadata, readers]))


def canonical_json(value: Any) -> str:
    """JSON in one spelling: sorted keys, no spaces."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, default=str)
