"""Personal data in questions and answers, found as in documents (docs/privacy.md)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from include.collection_file import Privacy
from include.errors import BadConfiguration
from include.privacy.scrub import open_scrubber

if TYPE_CHECKING:
    from collections.abc import Sequence


def scrub(text: str, kinds: Sequence[str], setting: str) -> tuple[str, bool]:
    """The text without values of these kinds, and whether there were any.

    :param setting: that names the kinds, for the message about a wrong one.
    :raises BadConfiguration: a kind that does not exist.
    """
    try:
        scrubber = open_scrubber(Privacy(scrub=tuple(kinds)))
    except BadConfiguration as error:
        raise BadConfiguration(error.what.replace("privacy.scrub", setting), error.why, error.fix) from None
    if scrubber is None:
        return text, False
    clean, counts = scrubber.scrub(text)
    return clean, bool(counts)
