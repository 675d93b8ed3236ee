"""The figures as a Markdown page; what people wrote around the generated part stays."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    Case = dict[str, Any]

BEGIN, END = "<!-- begin: written by python -m bench.incremental -->", "<!-- end -->"
_PAGE = f"# Incremental indexing, side by side\n\n{BEGIN}\n{END}\n"
_WORK = (
    ("first", "first index"), ("unchanged", "unchanged, median"), ("touched", "every file touched"),
    ("step", "version to version"), ("back", "and back"), ("config", "chunk size changed"), ("renamed", "every file renamed"),
)  # fmt: skip


def write_page(report: dict[str, Any], path: Path) -> None:
    """Replace what stands between the markers, or make the page."""
    page = path.read_text(encoding="utf-8") if path.exists() else _PAGE
    head, _, rest = page.partition(BEGIN)
    tail = rest.partition(END)[2]
    if not rest:
        head, tail = page.rstrip() + "\n\n", "\n"
    path.write_text(f"{head}{BEGIN}\n{markdown(report, path.stem)}\n{END}{tail}", encoding="utf-8")


def markdown(report: dict[str, Any], stem: str) -> str:
    """The generated part: setting, tables, plots."""
    peers = list(report["peers"].values())
    kills = [name for name in _names(peers) if name.startswith("kill")]
    sections = [
        _setting(report),
        "## Seconds of the work\n\n" + _table(peers, _WORK, _seconds) + f"\n\n![seconds]({stem}-seconds.svg)",
        "## Texts embedded\n\n" + _table(peers, _WORK, _texts) + f"\n\n{_needed(peers)}\n\n![texts]({stem}-texts.svg)",
        "## Right or wrong\n\nRows of the index at the end, against a chunking from scratch of the same files.\n\n"
        + _table(peers, [*_WORK, *((name, _kill_label(name)) for name in kills)], _verdict),
        "## While it works\n\n" + _serving(peers) + f"\n\n![serving]({stem}-serving.svg)",
        "## Space\n\n" + _table(peers, (("first", "bytes a chunk"),), _space),
    ]
    return "\n\n".join(sections)


def _setting(report: dict[str, Any]) -> str:
    delay = f" that takes {report['embed_ms']:g} ms a text" if report["embed_ms"] else ", which is instant"
    embedder = "all-MiniLM-L6-v2" if report["embedder"] == "minilm" else f"a hash of the text{delay}"
    versions = "; ".join(
        f"{p['title']} ({', '.join(f'{n} {v}' for n, v in p['versions'].items()) or 'this repository'})"
        for p in report["peers"].values()
    )
    return (
        f"{report['corpus']}: {report['files'][0]} and {report['files'][1]} files, {report['chunks'][0]:,} and"
        f" {report['chunks'][1]:,} chunks of at most {report['max_tokens'][0]} tokens, cut by Ragworks' chunker for all."
        f" Embedder: {embedder}. {report['machine']}, {report['made']}. One Postgres with pgvector, a database and a process"
        f" a peer; imports and the model's loading are not counted.\n\nVersions: {versions}."
    )


def _names(peers: Sequence[Case]) -> list[str]:
    return list(dict.fromkeys(name for peer in peers for name in peer["cases"]))


def _table(peers: Sequence[Case], rows: Sequence[tuple[str, str]], cell: Callable[[Case], str]) -> str:
    lines = [["", *(peer["title"] for peer in peers)], ["---"] * (len(peers) + 1)]
    for name, label in rows:
        lines.append([label, *(_cell(peer["cases"].get(name), cell) for peer in peers)])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _cell(case: Case | None, cell: Callable[[Case], str]) -> str:
    if case is None:
        return "–"
    return f"failed: {_plain(case['error'])}" if "error" in case else cell(case)


def _plain(error: str) -> str:
    return error.replace("|", "/").replace("\n", " ")[:160]


def _seconds(case: Case) -> str:
    wrong = "" if case["check"]["right"] else " (wrong)"
    return f"{case['seconds']:.2f}{wrong}"


def _texts(case: Case) -> str:
    return f"{case['texts']:,}"


def _needed(peers: Sequence[Case]) -> str:
    steps = [peer["cases"]["step"] for peer in peers if "needed" in peer["cases"].get("step", {})]
    return f"Chunk texts that the version after has and the one before has not: {steps[0]['needed']:,}." if steps else ""


def _verdict(case: Case) -> str:
    check = case["check"]
    found = [f"{check[kind]:,} {kind}" for kind in ("missing", "stale", "doubled") if check[kind]]
    verdict = "right" if check["right"] else f"**wrong**: {', '.join(found)}"
    return verdict + (" (was over before the kill)" if case.get("killed") is False else "")


def _kill_label(name: str) -> str:
    moment, _, back = name.removeprefix("kill ").partition(", ")
    when = "rows written, own notes not" if moment == "written" else f"at {float(moment):.0%} of the step"
    return f"`kill -9` {when}, {'source taken back, ' if back else ''}run again"


def _serving(peers: Sequence[Case]) -> str:
    rows: list[tuple[str, Callable[[Case], str]]] = [
        ("rows half-way", lambda c: f"{c['rows_halfway']:,}"),
        ("rows of both versions still there, worst moment", lambda c: f"{c['kept_worst']:.0%}"),
        ("documents neither as before nor as after, worst moment", lambda c: f"{c['half_documents_worst']:,}"),
        ("moments at which the whole index was one version", lambda c: f"{c['whole_share']:.0%}"),
        ("looks", lambda c: f"{len(c['samples'])}"),
    ]
    lines = [["a reader during the step", *(peer["title"] for peer in peers)], ["---"] * (len(peers) + 1)]
    lines += [[label, *(_cell(peer["cases"].get("watched"), cell) for peer in peers)] for label, cell in rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _space(case: Case) -> str:
    state = f" + {case['state_bytes_per_chunk']:,} in files" if case["state_bytes_per_chunk"] > 50 else ""
    return f"{case['bytes_per_chunk']:,}{state}"
