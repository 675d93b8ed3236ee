"""`ask`: an answer with its citations; `answer`: an earlier one, with all that it rests on."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any
from uuid import UUID

from include.cli.searching import add_how, add_principals, parse_filter, positive
from include.errors import BadConfiguration, BadData

if TYPE_CHECKING:
    import argparse

    from include.answering.answer import Answer
    from include.config import Settings
    from include.output import Output
    from include.store.answers import Source, StoredAnswer


def register(commands: Any, common: argparse.ArgumentParser) -> None:
    """Add the commands."""
    parser = commands.add_parser("ask", parents=[common], help="a question answered from the documents, with citations")
    parser.add_argument("name", help="collection")
    parser.add_argument("question")
    parser.add_argument(
        "--top-k", type=positive, metavar="N", help="passages that the answer may rest on (default: answers.passages)"
    )
    add_how(parser)
    parser.add_argument("--filter", metavar="JSON", help="metadata that must match, as of search")
    add_principals(parser)
    parser.set_defaults(run=run_ask)

    parser = commands.add_parser("answer", parents=[common], help="an earlier answer: its passages and what made it")
    parser.add_argument("id", help="as `ask` and the API gave it")
    parser.set_defaults(run=run_answer)


def run_ask(args: argparse.Namespace, settings: Settings, output: Output) -> None:
    """Run `ask`."""
    from include.answering.ask import ask, keep
    from include.collection_file import load_collection
    from include.registry.llm_champion import open_writer
    from include.retrieval.query import Query
    from include.retrieval.searcher import Searcher
    from include.store.pool import open_pool

    collection = load_collection(settings, args.name)
    passages = args.top_k or collection.answers.passages
    collection = collection.model_copy(update={"answers": collection.answers.model_copy(update={"passages": passages})})
    query = Query(args.question, passages, args.mode, parse_filter(args.filter) or {}, args.principals, args.rerank)
    with open_pool(settings) as pool:
        writer = open_writer(settings, pool, collection)
        asked = ask(Searcher(settings, pool, args.name), settings, collection, query, writer)
        query_id = keep(pool, collection, asked)
    made = asked.answer
    passport = {**asked.found.passport, **made.passport, "id": str(query_id)}
    output.result(_as_json(made, passport) | {"seconds": asked.seconds})
    output.line(made.text)
    for n, citation in enumerate(made.citations):
        output.line(("\n" if n == 0 else "") + f"[{citation.number}] {citation.document} [{citation.start}:{citation.end}]")
        output.line(f"    “{' '.join(citation.quote.split())}”")
    output.line("\n" + _summary(made))
    output.line(f"everything it rests on: ragworks answer {query_id}")


def run_answer(args: argparse.Namespace, settings: Settings, output: Output) -> None:
    """Run `answer`."""
    from include.store import answers
    from include.store.pool import open_pool

    try:
        answer_id = UUID(args.id)
    except ValueError:
        raise BadConfiguration(f"{args.id!r}", "it is not the id of an answer", "Copy it from what `ask` printed") from None
    with open_pool(settings) as pool, pool.connection() as connection:
        stored = answers.load_answer(connection, answer_id)
    if stored is None:
        raise BadData(f"answer {answer_id}", "there is none of this id", "It may have gone after query_log.keep_days")
    output.result(asdict(stored))
    _show(output, stored)


def _as_json(made: Answer, passport: dict[str, Any]) -> dict[str, Any]:
    """The answer as JSON has it."""
    return {
        "id": passport["id"],
        "answer": made.text,
        "abstained": made.abstained,
        "extractive": made.extractive,
        "confidence": round(made.confidence, 4),
        "groundedness": made.groundedness,
        "flags": list(made.flags),
        "citations": [asdict(citation) for citation in made.citations],
        "sources": [
            {"number": n, "document": h.document, "start": h.start, "end": h.end, "text": h.text, "score": h.score}
            for n, h in enumerate(made.sources, 1)
        ],
        "passport": passport,
    }


def _summary(made: Answer) -> str:
    """How it was answered, in one line."""
    how = "extracted: no LLM is set" if made.extractive else f"written by {(made.passport['llm'] or {}).get('model', 'no LLM')}"
    parts = [how, f"confidence {made.confidence:.2f}"]
    if made.groundedness is not None and not made.extractive:
        parts.append(f"{made.groundedness:.0%} of its sentences borne out")
    return ", ".join(parts) + (f"; flags: {', '.join(made.flags)}" if made.flags else "")


def _show(output: Output, stored: StoredAnswer) -> None:
    output.line(f"question  {stored.question or '(not kept)'}")
    output.line(f"answer    {stored.text or '(not kept)'}")
    output.line(
        f"asked     {stored.created_at:%Y-%m-%d %H:%M:%S} UTC" + (f"; flags: {', '.join(stored.flags)}" if stored.flags else "")
    )
    for key, value in stored.passport.items():
        shown = ", ".join(f"{k} {v}" for k, v in value.items()) if isinstance(value, dict) else value
        output.line(f"{key:<10}{'none' if shown is None else shown}")
    for citation in stored.citations:
        quote = f": “{' '.join(citation['quote'].split())}”" if citation.get("quote") else ""
        output.line(f"cites     [{citation['number']}] {citation['document']} [{citation['start']}:{citation['end']}]{quote}")
    for source in stored.sources:
        _show_source(output, source)


def _show_source(output: Output, source: Source) -> None:
    run = (
        f"written by run {source.run} ({source.run_mode}, {source.run_started:%Y-%m-%d %H:%M} UTC)"
        if source.run
        else "run not known"
    )
    output.line(f"\n[{source.number}] {source.document} [{source.start}:{source.end}], score {source.score:.3f}, {run}")
    note = "" if source.kept or source.text is None else "(read from the document as it is stored now) "
    output.line("    " + note + (source.text or "(not kept)"))
