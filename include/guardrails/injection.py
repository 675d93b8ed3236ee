"""Instructions hidden in documents: text that speaks to a model instead of to a reader.

Found by patterns in a text made plain: compatibility forms, look-alike letters, invisible characters and encoded runs are
resolved first. It is a tripwire, not a proof: what keeps instructions from being followed is that passages are marked off
as data in the prompt. Rates of false alarms on public text: docs/guardrails.md, by bench/injection.py.
"""

from __future__ import annotations

import base64
import binascii
import html
import re
import unicodedata
from typing import NamedTuple

# Written by no keyboard: characters that people do not see. ZWNJ and ZWJ are part of Persian, Hindi and emoji.
_SMUGGLED = re.compile("[\U000e0000-\U000e007f\u202a-\u202e\u2066-\u2069\u200b\u2060-\u2064\u00ad\ufeff]")
_JOINERS = re.compile("[\u200c\u200d\u180e\ufe00-\ufe0f]")
_TAGS = re.compile("[\U000e0020-\U000e007e]{4,}")
_LOOKALIKES = str.maketrans("аеорсухіјѕԁһоΑΒΕΗΙΚΜΝΟΡΤΧο", "aeopcyxijsdhoABEHIKMNOPTXo")
_BASE64 = re.compile(r"(?<![\w+/=])[A-Za-z0-9+/]{24,}={0,2}(?![\w+/=])")
_COMMENT = re.compile(r"<!--(.{0,2000}?)-->", re.DOTALL)
_UNSEEN = re.compile(
    r"<(\w+)[^>]*style\s*=\s*[\"'][^\"']*(?:display\s*:\s*none|visibility\s*:\s*hidden|font-size\s*:\s*0|opacity\s*:\s*0(?![.\d])"
    r"|color\s*:\s*(?:white|#fff))[^>]{0,200}>(.{0,2000}?)</\1>",
    re.DOTALL | re.IGNORECASE,
)

_EARLIER = r"(?:previous|prior|above|earlier|preceding|foregoing|former|original|existing|system|your|initial)"
_ORDERS = r"(?:instructions?|prompts?|rules?|directions?|guidelines?|commands?|directives?|programming|orders)"
_MODEL = r"(?:ai|a\.i\.|llm|language model|assistant|chatbot|chat ?gpt|gpt|claude|gemini|copilot|bot)"

_SAY = r"(?:say|answer|reply|respond|recommend)"

_PATTERNS = {
    "override": (
        r"\b(?:ignore|disregard|forget|override|bypass|do not (?:follow|obey)|don't (?:follow|obey)|stop following)\W+"
        rf"(?:(?:all|any|every|everything|each|of|the|these|those|my|and) )*(?:{_EARLIER} (?:\w+ )?)+{_ORDERS}\b"
        r"|\b(?:ignore|disregard|forget) (?:everything|all|anything|whatever)(?: \w+){0,3} (?:above|before|previously|so far)\b"
        r"|\bignor(?:iere|e|ez|a|i|ate) (?:\w+ ){0,3}(?:vorherigen|bisherigen|obigen|vorigen|instructions|consignes"
        r"|instrucciones|istruzioni|instruções)"
        r"(?: (?:anweisungen|befehle|regeln|précédentes|ci-dessus|anteriores|previas|precedenti))\b"
        r"|\b(?:new|updated|revised) (?:system )?instructions?(?: (?:for|to) (?:you|the \w+))? ?:"
    ),
    "role": (
        r"\b(?:you are now|from now on,? you(?: are| will| must|'re)|you will now (?:act|behave|respond|answer))\b"
        rf".{{0,60}}\b(?:{_MODEL}|dan|jailbr\w+|unrestricted|unfiltered|developer mode|admin\w*|pirate|hacker)\b"
        r"|\b(?:enable|enter|activate|switch to) (?:developer|debug|god|dan|jailbreak) mode\b"
        r"|\bpretend (?:to be|you are|that you are) (?:an? )?(?:\w+ )?(?:unrestricted|unfiltered|evil|hacker|admin\w*)\b"
    ),
    "leak": (
        r"\b(?:reveal|print|repeat|output|disclose|show|tell|leak|return|display)\b(?: \w+){0,3} (?:your|the) "
        r"(?:(?:full|entire|hidden|secret|initial|original|exact) )*(?:system|hidden|secret|initial) "
        r"(?:prompt|instructions?|message)\b"
    ),
    "addressed": (
        r"\b(?:attention|note|notice|message|instructions?|dear|hey|important|hello)(?: (?:to|for))?(?: (?:any|all|the|every))?"
        rf",? {_MODEL}s?(?: (?:models?|agents?|systems?|assistants?|(?:reading|processing|summari[sz]ing) this))?\s?[:!,.—-]"
        rf"|\bif you are an? (?:\w+ )?{_MODEL}\b.{{0,80}}"
        r"\b(?:must|should|please|do not|don't|ignore|say|reply|respond|include|write|output)\b"
        r"|\b(?:do not|don't|never) (?:mention|reveal|disclose|tell|inform|say)\b(?: \w+){0,4} (?:to )?the user\b"
        r"|\b(?:when|whenever|if) (?:you are |you're )?(?:asked|answering|summari[sz]ing|the user asks?)\b.{0,80}"
        rf"\b(?:always {_SAY}|(?:you must|instead) {_SAY})\b"
        r"|\b(?:instead|only),? (?:respond|reply|answer)(?: only)? with (?:the (?:word|phrase|text|following)|[\"“'])"
    ),
    "markup": (
        r"<\|(?:im_?start|im_?end|system|endoftext|eot_?id|start_?header_?id)\|>.{0,40}\b(?:system|assistant|user|you|ignore)\b"
        r"|\[/?inst\].{0,200}\[/?inst\]|<</?sys>>"
        r"|</?(?:system|system[-_]prompt|passage(?:-[0-9a-f]+)?|context|documents?)>\s*"
        r"(?:system|human|assistant|user|ignore|you |new )"
        r"|(?:^|\n)\s*#{0,4}\s*(?:system|assistant|human) ?(?:prompt|message|override)? ?: ?"
        r"(?:you (?:are|must|will)|ignore|disregard|from now)"
    ),
    "exfiltration": (
        r"\b(?:send|post|forward|upload|exfiltrate|leak|e-?mail)\b(?: \w+){0,3} "
        r"(?:conversation|chat history|system prompt|user'?s? (?:data|messages?|question|query|secrets?|credentials?))"
        r"\b.{0,40}\b(?:to|via)\b"
        r"|!\[[^\]]{0,40}\]\(https?://[^)\s]*[?&=][^)\s]*(?:\{\{?|<|\[)[\w ]{0,40}"
        r"(?:secret|data|query|question|conversation|history|prompt)"
    ),
}
_COMPILED = {kind: re.compile(pattern, re.IGNORECASE | re.DOTALL) for kind, pattern in _PATTERNS.items()}
# Nobody writes to a model in a place that readers do not see, unless it is to be obeyed.
_HIDDEN_ORDER = re.compile(
    rf"\b{_MODEL}\b.{{0,80}}\b(?:must|should|ignore|say|respond|reply|answer|recommend|rate|include|output)\b"
    rf"|\b(?:ignore|disregard)\b.{{0,40}}\b{_ORDERS}\b|\bsystem prompt\b",
    re.IGNORECASE | re.DOTALL,
)


class Finding(NamedTuple):
    """A sign of an instruction: its kind, and the plain text that shows it (at most 120 characters)."""

    kind: str
    excerpt: str


def find_instructions(text: str) -> list[Finding]:
    """Signs that a text gives orders to a model; empty for nearly all texts."""
    plain = _plain(text)
    flat = " ".join(plain.split())
    found = [
        Finding(kind, match[0][:120])
        for kind, pattern in _COMPILED.items()
        if (match := pattern.search(plain if kind == "markup" else flat))
    ]
    hidden = [m[1] for m in _COMMENT.finditer(text)] + [m[2] for m in _UNSEEN.finditer(text)]
    for part in map(_plain, hidden):
        if match := _HIDDEN_ORDER.search(part):
            found.append(Finding("hidden", match[0][:120]))
    for kind, decoded in [*(("encoded", t) for t in _decoded(text)), *(("invisible", t) for t in _tags(text))]:
        if kind == "invisible" or any(p.search(decoded) for p in _COMPILED.values()):
            found.append(Finding(kind, decoded[:120]))
    return found


def without_invisible(text: str) -> str:
    """The text without characters that a reader does not see and a model does: what an LLM is given."""
    return _SMUGGLED.sub("", text)


def _plain(text: str) -> str:
    """As a person would read it."""
    text = _JOINERS.sub("", _SMUGGLED.sub("", html.unescape(text)))
    text = unicodedata.normalize("NFKC", text).translate(_LOOKALIKES).replace("’", "'")
    return re.sub(r"[*_~`]{1,3}", "", text)


def _decoded(text: str) -> list[str]:
    """What runs of base64 say, where they say something in words."""
    found = []
    for match in _BASE64.finditer(text):
        run = match[0].rstrip("=")
        try:
            plain = base64.b64decode(run + "=" * (-len(run) % 4), validate=True).decode("utf-8")
        except (binascii.Error, ValueError):
            continue
        if plain.isprintable() and " " in plain:
            found.append(_plain(plain))
    return found


def _tags(text: str) -> list[str]:
    """Letters written in invisible tag characters; flags of regions in emoji are shorter than this, or end at a joiner."""
    runs = [
        "".join(chr(ord(c) - 0xE0000) for c in m[0]) for m in _TAGS.finditer(text) if text[m.start() - 1 : m.start()] != "🏴"
    ]
    return [run for run in runs if run.strip()]
