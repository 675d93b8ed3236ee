"""Each kind is found and its near-misses are not; scrubbing ends; nothing else of a text moves."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
import time
from collections import Counter
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from include.collection_file import Privacy
from include.config import PROJECT_ROOT
from include.errors import BadConfiguration
from include.privacy.forms import of_mail, of_numbers, plain
from include.privacy.kinds import KINDS
from include.privacy.scrub import Scrubber, open_scrubber

if TYPE_CHECKING:
    from pathlib import Path

ALL = Scrubber(list(KINDS))

FOUND = {
    "EMAIL_ADDRESS": ["jane.doe@example.com", "o'neil+list@mail.co.uk", "bob@corp.internal", "j@xn--80ak6aa92e.com"],
    "PHONE_NUMBER": ["+49 30 901820", "(212) 555-0100", "020 7946 0018", "1-800-438-4380", "+33 1 42 68 53 00", "555-123-4567"],
    "CREDIT_CARD": ["4111 1111 1111 1111", "5500-0055-5555-5559", "378282246310005"],
    "IBAN_CODE": ["DE89 3704 0044 0532 0130 00", "GB82WEST12345698765432"],
    "CRYPTO": ["1A1zP1eP5QGefi2DMPTfTL5SLmv7DivfNa", "bc1qar0srrr7xfkvy5l643lydnw9re59gtzzwf5mdq"],
    "IP_ADDRESS": ["203.0.113.9", "192.168.1.17/24", "2001:db8::8a2e:370:7334"],
    "MAC_ADDRESS": ["00:1b:44:11:3a:b7", "00-1B-44-11-3A-B7", "001b.4411.3ab7"],
    "US_SSN": ["536-90-4399", "123-45-6789"],
    "DE_TAX_ID": ["86095742719"],
    "ES_NIF": ["12345678Z"],
    "ES_NIE": ["X1234567L"],
    "FI_PERSONAL_IDENTITY_CODE": ["131052-308T"],
    "IN_AADHAAR": ["2341 2341 2346"],
    "IT_FISCAL_CODE": ["RSSMRA85T10A562S"],
    "PL_PESEL": ["44051401359"],
    "SE_PERSONNUMMER": ["811218-9876"],
    "TR_NATIONAL_ID": ["10000000146"],
    "UK_NINO": ["AB123456C", "AB 12 34 56 C"],
}

AROUND = [
    "_{}_", "\\_{}\\_", "**_{}_**", "{}_2024", "_{}", "~~{}~~", "**{}**", "`{}`", "\"{}\"", "“{}”", "«{}»", "<{}>",
    "<td>{}</td>", "|{}|", "={}", "x={};", "value = {}", "\n> {}", "~{}", "#{}", "({}):", "{}?", "{}’s", "{}—and",
    "\u00a0{}\u00a0x", "\u202f{}\u3000", "电话{}是", "メール{}です", "{}으로", "ที่{}นี้", "{}。", "，{}，",
]  # fmt: skip

WRITTEN_OTHERWISE = {
    "EMAIL_ADDRESS": [
        "jane.doe%40example.com", "jane.doe&#64;example.com", "jane.doe&#x40;example.com", "jane.doe&commat;example.com",
        r"jane.doe\@example.com", "jane.doe＠example.com", r"jane\_doe@example.com", "jane_doe@example.com",
        "用户@例子.中国",
    ],
    "PHONE_NUMBER": [
        "+49\u00a030\u00a0901820", "+49\u202f30\u202f901820", "＋４９ ３０ ９０１８２０", "(212)\u00a0555\u20110100",
    ],
    "CREDIT_CARD": [
        "4111\u00a01111\u00a01111\u00a01111", "4111–1111–1111–1111", "4111\u20111111\u20111111\u20111111",
        "4111\u20091111\u20091111\u20091111", "４１１１１１１１１１１１１１１１",
    ],
    "IBAN_CODE": ["DE89\u00a03704\u00a00044\u00a00532\u00a00130\u00a000", "DE89–3704–0044–0532–0130–00"],
    "US_SSN": ["536–90–4399", "536\u00a090\u00a04399"],
    "MAC_ADDRESS": ["00‑1B‑44‑11‑3A‑B7"],
}  # fmt: skip

NOT_FOUND = [
    "released as v1.2.3.4, torch==2.0.1.1 and version 10.4.0.2; 1.2.3.4.5 is no address either",
    'needs torch>1.2.3.4, numpy < 1.2.3.4, tool ~> 1.2.3.4, tool~=1.2.3.4 or {"vendor/tool": "^1.2.3.4"}',
    "1_234_567_890, 4111_1111_1111_1112, snake_case_name_2024 and a\u00a0b, 1990–1995, 12–13\u00a0000",
    r"100%40m, a &#64; b, \@media and [~/\@types]",
    "listens on 127.0.0.1:8080, 0.0.0.0 or ::1 with mask 255.255.255.0",
    "commit 3f786850e387550fdab836ed7e6dc881de23001b of 2023-05-02T00:00:00+00:00, 2026-11-21 15:46:45",
    "order 4111 1111 1111 1112, invoice 1234567890123456",
    "std::vector<int> a::b; fed::add(c) and x = {::}",
    "`@task.docker`, @torch.no_grad(), react@18.2.0 and <token>@github.com/x",
    "loss 0.4111111111111111, [0.30-0.78], 0.750-0.757, 37.75322284 and 1627764201",
    "uuid f449a9e7-74b7-481d-82da-02723e396acd, arXiv:2112.10752, ISBN 978-3-16-148410-0",
    "https://example.org:8080/a@b and git@host:me/it.git",
    "IBAN DE89 3704 0044 0532 0130 01; wallet 1A1zP1eP5QGefi2DMPTfTL5SLmv7DivfNb",
    "SSN 666-12-3456, 000-12-3456, 123-00-4567",
    "card 1234, call 911, room 3-14, pages 12345-12389 (2019)",
]


@pytest.mark.parametrize(("kind", "value"), [(kind, value) for kind, values in FOUND.items() for value in values])
@pytest.mark.parametrize("around", ["Reach it at {}.", "| {} |", "```\nkey = '{}'\n```", "{}", "name:\t{}\nnext line"])
def test_every_kind_is_found(kind: str, value: str, around: str) -> None:
    assert Scrubber([kind]).scrub(around.format(value)) == (around.format(f"<{kind}>"), {kind: 1})


@pytest.mark.parametrize("around", AROUND)
def test_what_stands_beside_a_value_does_not_hide_it(around: str) -> None:
    """Emphasis, quotes, tags, equations, and the letters of scripts that put no space between words."""
    missed = []
    for kind, value in [(kind, value) for kind, values in FOUND.items() for value in values]:
        before, after = (f"See {around} now").split("{}")
        clean, counts = Scrubber([kind]).scrub(f"{before}{value}{after}")
        if counts != {kind: 1} or value in clean or not clean.endswith(after):
            missed.append((value, clean))
    assert not missed


@pytest.mark.parametrize(("kind", "value"), [(kind, value) for kind, values in WRITTEN_OTHERWISE.items() for value in values])
@pytest.mark.parametrize("around", ["Reach it at {}.", "|{}|", "<a href='mailto:{}'>it</a>", "“{}”", "{}"])
def test_other_spaces_dashes_and_signs(kind: str, value: str, around: str) -> None:
    assert Scrubber([kind]).scrub(around.format(value)) == (around.format(f"<{kind}>"), {kind: 1})


@given(st.text(alphabet=st.one_of(st.characters(), st.sampled_from("_@%40&#64;x\\.-–\u00a0是a0")), max_size=60))
@hypothesis_settings(max_examples=300, deadline=None)
def test_forms_keep_every_place(text: str) -> None:
    for form in (of_numbers, of_mail):
        made = form(plain(text))
        assert len(made) == len(text)
        assert [m for t, m in zip(text, made, strict=True) if t.isspace() != m.isspace()] == []


def test_every_kind_has_an_example() -> None:
    assert {*FOUND, "URL_CREDENTIALS"} == set(KINDS)


@pytest.mark.parametrize("text", NOT_FOUND)
def test_near_misses_are_left_alone(text: str) -> None:
    assert ALL.scrub(text) == (text, {})


def test_a_password_in_a_url_goes_and_the_host_stays() -> None:
    text = "psql postgresql://admin:s3cret@db.example.org:5432/sales"
    assert ALL.scrub(text)[0] == "psql postgresql://<URL_CREDENTIALS>@db.example.org:5432/sales"
    assert Scrubber(["EMAIL_ADDRESS"]).scrub(text) == (text, {})


def test_all_kinds_together_in_one_text() -> None:
    text = "\n".join(value for values in FOUND.values() for value in values)
    clean, counts = ALL.scrub(text)
    assert sum(counts.values()) == sum(map(len, FOUND.values()))
    assert not [value for values in FOUND.values() for value in values if value in clean]
    assert ALL.scrub(clean) == (clean, {})


def test_of_overlapping_findings_the_surer_wins_and_nothing_of_either_is_left() -> None:
    """A verified card number also has the digits of telephone numbers."""
    clean, counts = Scrubber(["CREDIT_CARD", "PHONE_NUMBER"]).scrub("pay 4012 8888 8888 1881 now")
    assert (clean, counts) == ("pay <CREDIT_CARD> now", {"CREDIT_CARD": 1})


_VALUES = st.sampled_from([value for values in FOUND.values() for value in values])
_PIECES = st.one_of(_VALUES, st.sampled_from(NOT_FOUND), st.text(max_size=20), st.from_regex(r"[0-9 .:@/a-f+()-]{0,40}"))


@given(st.lists(_PIECES, max_size=8), st.sampled_from(["", " ", "\n", ",", "-", ":", "@"]))
@hypothesis_settings(max_examples=200, deadline=None)
def test_a_scrubbed_text_stays_as_it_is(pieces: list[str], between: str) -> None:
    text = between.join(pieces)
    clean, counts = ALL.scrub(text)
    assert ALL.scrub(clean) == (clean, {})
    assert ALL.scrub(text) == (clean, counts)
    if not counts:
        assert clean == text


@given(st.text(alphabet=st.characters(categories=["L", "Z", "P", "Cc"], exclude_characters="@:")))
@hypothesis_settings(max_examples=100, deadline=None)
def test_text_without_digits_and_signs_is_untouched(text: str) -> None:
    assert ALL.scrub(text) == (text, {})


@pytest.mark.parametrize("value", ["jane.doe@example.com", "4111 1111 1111 1111", "+49 30 901820"])
@pytest.mark.parametrize("filler", ["x ", "lorem,ipsum;", "\n", "a=0.5;"])
def test_a_value_is_found_anywhere_in_a_long_line(value: str, filler: str) -> None:
    for offset in (4_000, 8_190, 8_200, 100_000):
        text = (filler * (offset // len(filler) + 1))[:offset] + " " + value + " " + filler * 200
        assert value not in ALL.scrub(text)[0]


@pytest.mark.thorough  # it reads a clock, which a busy machine makes late
@pytest.mark.parametrize(
    "unit", ["a-", "@a.b", "1.1.", "a.", "ab:cd:", "://a:", "1 ", "4", "\\_", "是a", "%40a.", "<a>", "1–\u00a0"]
)
def test_time_grows_with_the_text_and_no_faster(unit: str) -> None:
    def seconds(size: int) -> float:
        started = time.process_time()
        ALL.scrub(unit * (size // len(unit)))
        return time.process_time() - started

    seconds(1_000)  # builds the recognisers
    assert seconds(80_000) < 10 * seconds(20_000) + 0.5


def test_same_kinds_give_the_same_scrubber_and_other_kinds_another_fingerprint() -> None:
    one = open_scrubber(Privacy(scrub=("US_SSN", "EMAIL_ADDRESS")))
    assert one
    assert one is open_scrubber(Privacy(scrub=("EMAIL_ADDRESS", "US_SSN", "US_SSN")))
    assert one.fingerprint != Scrubber(["US_SSN"]).fingerprint
    assert open_scrubber(Privacy()) is None


def test_an_unknown_kind_is_refused_with_the_nearest() -> None:
    with pytest.raises(BadConfiguration, match=r"'EMAIL'.*known kinds are EMAIL_ADDRESS, .*Did you mean EMAIL_ADDRESS\?"):
        open_scrubber(Privacy(scrub=("EMAIL",)))


def test_the_library_is_loaded_only_when_there_is_something_to_scrub_and_asks_no_network() -> None:
    """In a process whose sockets are closed off."""
    program = (
        "import socket, sys\n"
        "def refuse(*a, **k): raise AssertionError('network')\n"
        "socket.socket.connect = socket.getaddrinfo = socket.create_connection = refuse\n"
        "from include.collection_file import Privacy\n"
        "from include.privacy import open_scrubber\n"
        "scrubber = open_scrubber(Privacy(scrub=('EMAIL_ADDRESS', 'PHONE_NUMBER')))\n"
        "scrubber.fingerprint, scrubber.scrub('nothing here')\n"
        "assert 'presidio_analyzer' not in sys.modules\n"
        "print(scrubber.scrub('a@example.co.uk'))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=PROJECT_ROOT, capture_output=True, text=True, check=False)
    assert done.stdout == "('<EMAIL_ADDRESS>', {'EMAIL_ADDRESS': 1})\n", done.stderr


@pytest.mark.slow
def test_precision_on_real_text(shared_data: Path) -> None:
    """The counts that docs/privacy.md gives; a library update that finds more or less is looked at by a person."""
    counts: Counter[str] = Counter()
    for name in ("medquad", "scifact", "so-airflow", "zenml-docs-qa", "squad-a"):
        with gzip.open(shared_data / name / "corpus.jsonl.gz", "rt") as lines:
            for row in map(json.loads, lines):
                counts.update(ALL.scrub(f"{row.get('title') or ''}\n\n{row['text']}")[1])
    assert counts == {
        "EMAIL_ADDRESS": 47, "PHONE_NUMBER": 177, "IP_ADDRESS": 2, "URL_CREDENTIALS": 13,
        "PL_PESEL": 2, "SE_PERSONNUMMER": 1, "UK_NINO": 3,
    }  # fmt: skip
