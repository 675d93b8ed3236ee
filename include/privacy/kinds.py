"""The kinds of personal data on offer: those whose recogniser is precise on real text (counts in docs/privacy.md).

A kind has three parts: a *trigger*, a quick pattern that every value of the kind matches at least in part, so that the
slower recogniser sees only the surroundings of its hits; the recogniser, from Presidio where it has one; and a last look at
the neighbourhood, which a pattern with word borders cannot take (a fraction's digits are no card number).
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from include.privacy.forms import of_mail, of_numbers

if TYPE_CHECKING:
    from collections.abc import Callable


def anywhere(text: str, start: int, end: int) -> bool:
    """No look at the neighbourhood."""
    return True


def stands_alone(text: str, start: int, end: int) -> bool:
    """Whether the digits are a number of their own, not a piece of a fraction, a version or a longer number."""
    before, after = text[max(start - 2, 0) : start], text[end : end + 2]
    return not _CONTINUES.fullmatch(before[::-1]) and not _CONTINUES.fullmatch(after)


def is_mail(text: str, start: int, end: int) -> bool:
    """Not the password and host of a URL: those are URL_CREDENTIALS."""
    return not _URL_USER.search(text, max(start - 256, 0), start)


def is_phone(text: str, start: int, end: int) -> bool:
    """Digits that are also written as a phone number: with +, in groups, or after a word that announces one.

    Any ten digits are valid in some country, and in a text mostly an identifier, a fraction or an interval.
    """
    found = text[start:end]
    groups = re.findall(r"\d+", found)
    if sum(map(len, groups)) < 9:
        return False
    if found.startswith("+"):
        return True
    grouped = len(groups) > 2 or (len(groups) == 2 and found.lstrip("(").startswith("0") and "." not in found)
    announced = _PHONE.search(text, max(start - 30, 0), start)
    return stands_alone(text, start, end) and (grouped or announced is not None)


def is_address(text: str, start: int, end: int) -> bool:
    """An IP address that can be somebody's: no loopback, no wildcard, no mask, and not a version of four numbers."""
    found = text[start:end]
    address = ipaddress.ip_interface(found).ip
    if address.is_loopback or address.is_unspecified or found.startswith("255."):
        return False
    if address.version == 6:
        return any(character.isdigit() for character in found)  # fed::add is C++ or Rust
    return stands_alone(text, start, end) and not _is_version(text, start, end)


def _is_version(text: str, start: int, end: int) -> bool:
    """Whether a word or an operator says so; one of a single sign needs a name before it, and ``ip=`` is none."""
    first = max(start - 64, 0)
    if _VERSION.search(text, first, start):
        return True
    bracketed = text.startswith(">", end) or _TAG.search(text, first, start)
    return not bracketed and _COMPARED.search(text, first, start) is not None


_CONTINUES = re.compile(r"[.,\-]\d")
# The word, not the name of the kind in the place of another number: <PHONE_NUMBER>.
_PHONE = re.compile(r"(?<![<\w])(?:tel|phone|telephone|fax|call|calling|mobile|cell|toll|dial)\b", re.IGNORECASE)
_URL_USER = re.compile(r"://[^\s/@:<>\"']+:$")
_VERSION = re.compile(r"(?:\bv|\bversion|\brelease|[=<>~!]=|~>)\s*$", re.IGNORECASE)
# name<1.2.3.4 or "name": "^1.2.3.4"
_COMPARED = re.compile(r"(?:^|[\s\"'`(\[,;])[A-Za-z][\w.\-/\[\]]{0,40}(?<!-)(?: ?[<>^] ?|[\"']: ?[\"']\^)$")
_TAG = re.compile(r"<[^<>]*>$")


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of personal data.

    :param name: in settings, counts and the text: ``<NAME>``.
    :param trigger: matches a part of every value; bounded, so that it takes linear time on any text.
    :param recognisers: names of Presidio's classes, or of the functions of :mod:`include.privacy.recognisers`.
    :param margin: characters around a hit that the recogniser sees: what a value may reach beyond it.
    :param least: score from which a finding counts; 1 is a value whose checksum or structure was verified.
    :param accept: a last look at (text, start, end) of a finding.
    :param form: the copy of a plain text, of the same length, in which trigger, recognisers and ``accept`` look.
    """

    name: str
    trigger: re.Pattern[str]
    recognisers: tuple[str, ...]
    least: float = 1.0
    accept: Callable[[str, int, int], bool] = field(default=stands_alone)
    margin: int = 32
    form: Callable[[str], str] = of_numbers


# The longest address has 254 characters (RFC 5321, 4.5.3.1), the longest IBAN with spaces 42.
KINDS = {
    kind.name: kind
    for kind in (
        Kind("EMAIL_ADDRESS", re.compile(r"@[\w\-]{1,63}\.\w"), ("email",), accept=is_mail, margin=256, form=of_mail),
        Kind(
            "PHONE_NUMBER",
            re.compile(r"(?:\d[ .\-/()\u2010-\u2015]{0,3}){9,20}"),
            ("phone", "north_american_phone"),
            0.4,
            is_phone,
        ),
        Kind("CREDIT_CARD", re.compile(r"\d[\d -]{11,60}"), ("CreditCardRecognizer",)),
        Kind("IBAN_CODE", re.compile(r"[A-Z]{2}\d{2}[ -]?[A-Z0-9]{4}"), ("IbanRecognizer",), accept=anywhere, margin=64),
        Kind("CRYPTO", re.compile(r"(?:bc1|BC1|[13])[A-Za-z0-9]{25,59}"), ("CryptoRecognizer",), accept=anywhere),
        Kind(
            "IP_ADDRESS",
            re.compile(r"\.\d{1,3}\.\d{1,3}\.\d|::|:[0-9A-Fa-f]{1,4}:[0-9A-Fa-f]{1,4}:"),
            ("IpRecognizer",),
            0.6,
            is_address,
            margin=64,
        ),
        Kind(
            "MAC_ADDRESS",
            re.compile(r"[:-][0-9A-Fa-f]{2}[:-][0-9A-Fa-f]{2}[:-]|\.[0-9A-Fa-f]{4}\."),
            ("MacAddressRecognizer",),
            0.6,
        ),
        Kind("URL_CREDENTIALS", re.compile(r"://[^\s/@:<>\"']{1,256}:"), ("url_credentials",), accept=anywhere, margin=264),
        Kind("US_SSN", re.compile(r"\d{3}[- .]\d{2}[- .]\d{4}"), ("social_security",), 0.5),
        Kind("DE_TAX_ID", re.compile(r"\d{11}"), ("DeTaxIdRecognizer",)),
        Kind("ES_NIF", re.compile(r"\d{7}-?[A-Za-z]"), ("EsNifRecognizer",)),
        Kind("ES_NIE", re.compile(r"\d{7}-?[A-Za-z]"), ("EsNieRecognizer",)),
        Kind("FI_PERSONAL_IDENTITY_CODE", re.compile(r"\d{6}[+\-A-Ya-y]\d{3}"), ("FiPersonalIdentityCodeRecognizer",)),
        Kind("IN_AADHAAR", re.compile(r"\d{4}[- :]?\d{4}[- :]?\d{4}"), ("InAadhaarRecognizer",)),
        Kind("IT_FISCAL_CODE", re.compile(r"\d[LMNP-Vlmnp-v\d][A-EHLMPRSTa-ehlmprst]\w{6}"), ("ItFiscalCodeRecognizer",)),
        Kind("PL_PESEL", re.compile(r"\d{11}"), ("PlPeselRecognizer",)),
        Kind("SE_PERSONNUMMER", re.compile(r"\d{6}[-+]?\d{4}"), ("SePersonnummerRecognizer",)),
        Kind("TR_NATIONAL_ID", re.compile(r"\d{11}"), ("TrNationalIdRecognizer",)),
        Kind("UK_NINO", re.compile(r"\d{2} ?\d{2} ?\d{2} ?[A-Da-d]"), ("UkNinoRecognizer",), 0.5),
    )
}
