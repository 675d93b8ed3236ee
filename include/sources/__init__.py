"""Where documents come from: listings with cheap fingerprints, and reading that never stops at one bad document."""

from include.sources.open import open_source

__all__ = ["open_source"]
