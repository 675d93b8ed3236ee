"""Takes personal data out of documents before anything of them is stored."""

from include.privacy.scrub import Scrubber, open_scrubber
from include.privacy.source import ScrubbedSource, scrubbed

__all__ = ["ScrubbedSource", "Scrubber", "open_scrubber", "scrubbed"]
