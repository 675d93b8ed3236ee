"""Copies of a text in which values look as the recognisers expect them, character for character, so that places stay the same.

Presidio's patterns know ASCII spaces and hyphens alone, and their word borders take ``_`` and the letters of scripts without
spaces for a part of the value: ``_jane@example.com_`` in Markdown, a number in a Chinese sentence, one with no-break spaces.
"""

from __future__ import annotations

import re

BORDER = "\x01"  # neither a letter, nor white space, nor a sign that any value may hold

_FULL_WIDTH = "＠＋" + "".join(map(chr, (*range(0xFF10, 0xFF1A), *range(0xFF21, 0xFF3B), *range(0xFF41, 0xFF5B))))
_SPACES = "\u00a0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u202f\u205f\u3000"
_AS_ASCII = {space: " " for space in _SPACES} | {wide: chr(ord(wide) - 0xFEE0) for wide in _FULL_WIDTH}
_WIDE = re.compile(f"[{_SPACES}{_FULL_WIDTH}]")
# A dash between words ends a value, so that it must stay one there.
_DASH = re.compile("(?<=[0-9A-F])[\u2010-\u2015\u2212\ufe58\ufe63\uff0d](?=[0-9A-F])")
_UNSPACED = (  # Thai, Lao, Burmese, Khmer, kana, ideographs, Hangul (whose particles follow a word)
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3005-\u3007\u3040-\u30ff\u3130-\u318f\u31f0-\u31ff"
    "\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af\uf900-\ufaff\uff66-\uff9f\U00020000-\U0003ffff"
)
_TOUCHING = re.compile(f"(?<=[0-9A-Za-z_])[{_UNSPACED}]|[{_UNSPACED}](?=[0-9A-Za-z_])")
# What stands for @ in a link, in HTML and in Markdown; and an underscore that Markdown escapes, in what stands before it.
_AT = re.compile(r"%40|&#0{0,4}64;|&#[xX]0{0,4}40;|&commat;|\\@")
_ESCAPED = re.compile(r"\\(?=_[\w.+\\\-]{0,64}@)")
_DOMAIN = re.compile(r"(?<=@)[\w.\-]+")


def plain(text: str) -> str:
    """With ASCII digits, spaces and hyphens, and a border between a value and the letters of a script without spaces."""
    if text.isascii():
        return text
    text = _DASH.sub("-", _WIDE.sub(lambda found: _AS_ASCII[found[0]], text))
    return _TOUCHING.sub(BORDER, text)


def of_numbers(text: str) -> str:
    """Of a plain text, with a border in the place of every underscore."""
    return text.replace("_", BORDER)


def of_mail(text: str) -> str:
    """Of a plain text, with an @ in each address, the rest of what stood for it as hyphens, and a border after each domain."""
    if "40" in text or "&" in text or "\\" in text:
        text = _ESCAPED.sub("-", _AT.sub(lambda found: "-" * (len(found[0]) - 1) + "@", text))
    return _DOMAIN.sub(lambda found: found[0].replace("_", BORDER), text) if "_" in text and "@" in text else text
