"""Presidio's recognisers, run one by one: patterns and checksums, no language model and no network.

Its ``AnalyzerEngine`` wants a spaCy model, which would be downloaded, to weigh the words around a finding. A recogniser
alone needs none; thresholds take the place of the words.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

# Domains of company networks: RFC 6762 appendix G, and the two reserved by name (.local there, .internal by ICANN in 2024).
_PRIVATE_DOMAINS = ("corp", "home", "internal", "intranet", "lan", "local", "localdomain", "private")

# Whose numbers are found without the country's prefix: Presidio's, less Canada, which shares its plan with the US. Each is
# one more pass; numbers written with + are found for every country.
_PHONE_REGIONS = ("US", "GB", "DE", "FR", "IL", "IN", "BR")
_STRICT_GROUPING = 2  # of phonenumbers: grouped as the country does; at 1 date ranges and confidence intervals are found


def build(names: Sequence[str]) -> list[Any]:
    """The recognisers of one kind, each with Presidio's ``analyze(text, entities)``.

    :param names: classes of ``presidio_analyzer.predefined_recognizers``, or functions of this module.
    """
    from presidio_analyzer import predefined_recognizers

    return [_OWN[name]() if name in _OWN else getattr(predefined_recognizers, name)() for name in names]


def _email() -> Any:
    import tldextract
    from presidio_analyzer.predefined_recognizers import EmailRecognizer

    # The list of public suffixes inside the package: the default fetches a newer one.
    suffixes = tldextract.TLDExtract(suffix_list_urls=(), cache_dir=None, extra_suffixes=_PRIVATE_DOMAINS)

    class Email(EmailRecognizer):  # type: ignore[misc, unused-ignore]
        def validate_result(self, pattern_text: str) -> bool:
            return bool(suffixes(pattern_text.rpartition("@")[2]).suffix)

    return Email()


def _phone() -> Any:
    from presidio_analyzer.predefined_recognizers import PhoneRecognizer

    return PhoneRecognizer(supported_regions=_PHONE_REGIONS, leniency=_STRICT_GROUPING)


def _north_american_phone() -> Any:
    """Numbers grouped 3-3-4 whose area or exchange is not in use, mistyped ones among them."""
    grouped = r"(?<![\w.\-/+])(?:\+?1[ .-]?)?(?:\(\d{3}\) ?|\d{3}[ .-])\d{3}[.-]\d{4}(?![\w-])"
    return _pattern("PHONE_NUMBER", grouped, 0.5)


def _url_credentials() -> Any:
    """User and password before a URL's host."""
    return _pattern("URL_CREDENTIALS", r"(?<=://)[^\s/@:<>\"']{1,256}:[^\s/@<>\"']{1,256}(?=@)", 1.0)


def _social_security() -> Any:
    from presidio_analyzer.predefined_recognizers import UsSsnRecognizer

    class SocialSecurity(UsSsnRecognizer):  # type: ignore[misc, unused-ignore]
        def invalidate_result(self, pattern_text: str) -> bool:
            """Numbers from advertisements count too: people try the setting with 123-45-6789."""
            digits = "".join(character for character in pattern_text if character.isdigit())
            return digits not in ("123456789", "078051120", "987654320") and bool(super().invalidate_result(pattern_text))

    return SocialSecurity()


def _pattern(kind: str, regex: str, score: float) -> Any:
    from presidio_analyzer import Pattern, PatternRecognizer

    return PatternRecognizer(kind, patterns=[Pattern(kind, regex, score)])


_OWN: dict[str, Callable[[], Any]] = {
    "email": _email,
    "phone": _phone,
    "north_american_phone": _north_american_phone,
    "url_credentials": _url_credentials,
    "social_security": _social_security,
}
