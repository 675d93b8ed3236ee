"""`feedback`: what people said of answers, and what a person makes of it."""

from __future__ import annotations

import getpass
import sys
from typing import TYPE_CHECKING, Any

from include.errors import BadConfiguration, BadData

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence
    from uuid import UUID

    from include.config import Settings
    from include.feedback.review import Verdict
    from include.output import Output
    from include.store.pool import Connection, Pool
    from include.store.review_queue import Item

SNIPPET, LISTED, LEAST = 60, 50, 4  # characters of a text, judgements in a list, characters of an id
_KEYS = {"a": True, "r": False}


def register(commands: Any, common: argparse.ArgumentParser) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "feedback", parents=[common], help="what people said of answers: look at it, accept it, use it"
    )
    parser.add_argument("name", metavar="NAME", help="collection")
    action = parser.add_mutually_exclusive_group()
    action.add_argument("--review", action="store_true", help="ask about each open one, in the terminal")
    action.add_argument("--export", metavar="FILE", help="write the queue as JSON lines, .gz if the name ends so")
    action.add_argument("--import", dest="imported", metavar="FILE", help="take the verdicts of such a file")
    parser.add_argument("--accept", nargs="+", default=(), metavar="ID", help="these are right; the beginning of an id will do")
    parser.add_argument("--reject", nargs="+", default=(), metavar="ID", help="nothing is to be learned from these")
    parser.add_argument("--state", choices=("open", "accepted", "rejected", "edited", "all"), default="open",
                        help="which --export and the list show (open)")  # fmt: skip
    parser.add_argument("--by", metavar="WHO", help="the reviewer's name, for the record (the user of this machine)")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace, settings: Settings, output: Output) -> None:
    """Run the command."""
    from include.store import collections
    from include.store.pool import open_pool

    if (args.accept or args.reject) and (args.review or args.export or args.imported):
        raise BadConfiguration("feedback", "--accept and --reject stand alone", "Leave out --review, --export and --import")
    with open_pool(settings) as pool:
        with pool.connection() as connection:
            collection = collections.collection_id(connection, args.name)
        if args.export:
            _export(args, pool, collection, output)
        elif args.review:
            _ask(args, pool, collection, output)
        elif args.imported or args.accept or args.reject:
            _take(args, pool, collection, output)
        else:
            _list(args, pool, collection, output)


def _list(args: argparse.Namespace, pool: Pool, collection: int, output: Output) -> None:
    from include.feedback.review import as_line
    from include.store import review_queue

    with pool.connection() as connection:
        counts = review_queue.counts(connection, collection)
        found = review_queue.items(connection, collection, states=_states(args), limit=LISTED)
    output.result({"collection": args.name, **counts, "feedback": [as_line(one) for one in found]})
    columns = ("id", "given (UTC)", "thumb", "question", "what would be right", "where", "state", "by")
    output.table(columns, [_row(one) for one in found])
    output.line(f"{args.name}: " + ", ".join(f"{count} {state}" for state, count in counts.items()))
    if counts["open"]:
        output.line(f"review them with: ragworks feedback {args.name} --review, or --export FILE")


def _export(args: argparse.Namespace, pool: Pool, collection: int, output: Output) -> None:
    from include.feedback.lines import write_queue
    from include.store import review_queue

    with pool.connection() as connection:
        written = write_queue(args.export, review_queue.items(connection, collection, states=_states(args)))
    output.result({"collection": args.name, "file": args.export, "written": written})
    output.line(f"{written} judgements written to {args.export}")
    output.line(f"reviewed, they come back with: ragworks feedback {args.name} --import {args.export}")


def _take(args: argparse.Namespace, pool: Pool, collection: int, output: Output) -> None:
    from include.feedback.lines import read_verdicts
    from include.feedback.review import review

    with pool.connection() as connection:
        verdicts = list(read_verdicts(args.imported)) if args.imported else _named(args, connection, collection)
        done = review(connection, collection, verdicts, by=_reviewer(args))
    output.result({"collection": args.name, **done.as_dict()})
    output.line(", ".join(f"{count} {what}" for what, count in done.as_dict().items() if what not in ("golden", "withdrawn")))
    if done.golden or done.withdrawn:
        output.line(f"golden queries: {done.golden} made, {done.withdrawn} withdrawn")


def _named(args: argparse.Namespace, connection: Connection, collection: int) -> list[Verdict]:
    from include.feedback.review import Verdict

    verdicts = [
        Verdict(_one(connection, collection, text), accepted)
        for accepted, texts in ((True, args.accept), (False, args.reject))
        for text in texts
    ]
    both = {v.id for v in verdicts if v.accepted} & {v.id for v in verdicts if not v.accepted}
    if both:
        raise BadConfiguration("feedback", f"{min(both)} is both accepted and rejected", "Give each id once")
    return list({verdict.id: verdict for verdict in verdicts}.values())


def _one(connection: Connection, collection: int, text: str) -> UUID:
    from include.store import review_queue

    found = review_queue.matching(connection, collection, text) if len(text) >= LEAST else []
    if len(found) != 1:
        why = f"no feedback of this collection has an id that begins with {text!r}"
        why = "several ids begin so" if len(found) > 1 else why if len(text) >= LEAST else f"{LEAST} characters are needed"
        raise BadData(f"feedback {text}", why, "Give the id as the list shows it")
    return found[0]


def _ask(args: argparse.Namespace, pool: Pool, collection: int, output: Output) -> None:
    """One after the other; each answer is kept at once."""
    from include.feedback.review import Verdict, review
    from include.store import review_queue

    if output.as_json:
        raise BadConfiguration(
            "feedback --review", "it asks in the terminal", "Use --export and --import, or --accept and --reject"
        )
    with pool.connection() as connection:
        waiting = review_queue.items(connection, collection, states=("open",))
    done = 0
    for number, item in enumerate(waiting, 1):
        _show(item, f"{number} of {len(waiting)}", output)
        answer = _key()
        if answer == "q":
            break
        if answer in _KEYS:
            with pool.connection() as connection:
                review(connection, collection, [Verdict(item.id, _KEYS[answer])], by=_reviewer(args))
            done += 1
    output.line(f"{done} reviewed, {len(waiting) - done} still open")


def _show(item: Item, place: str, output: Output) -> None:
    thumb = {1: "thumb up", -1: "thumb down", None: "no thumb"}[item.thumb]
    output.line(f"\n{place}: {thumb}, {item.given_at:%Y-%m-%d %H:%M} UTC, {item.id}")
    where = f"{item.document}" + (f" [{item.start}:{item.end}]" if item.start is not None else "") if item.document else None
    for label, text in (
        ("asked", item.question or "(expired)"), ("answer", item.said), ("right", item.answer), ("where", where),
        ("comment", item.comment),
    ):  # fmt: skip
        if text:
            output.line(f"  {label:8} {text}")
    for one in item.shown[:5]:
        output.line(f"  {'cited' if one.cited else 'shown':8} {one.number}. {one.document}: {_short(one.text or '')}")


def _key() -> str:
    """a, r, s or q; the end of the input is q."""
    while True:
        print("accept, reject, skip or quit [a/r/s/q]? ", end="", flush=True)
        line = sys.stdin.readline()
        if not line:
            return "q"
        if (key := line.strip().lower()[:1]) in ("a", "r", "s", "q"):
            return key


def _row(item: Item) -> Sequence[Any]:
    where = item.document or ("" if item.wrong is None else f"not {', '.join(map(str, item.wrong))}")
    thumb = {1: "up", -1: "down", None: ""}[item.thumb]
    return (
        str(item.id)[:8], f"{item.given_at:%Y-%m-%d %H:%M}", thumb, _short(item.question or "(expired)"),
        _short(item.answer or item.comment or ""), where, item.state, item.by,
    )  # fmt: skip


def _states(args: argparse.Namespace) -> Sequence[str]:
    from include.store.review_queue import STATES

    return STATES if args.state == "all" else (args.state,)


def _reviewer(args: argparse.Namespace) -> str:
    return str(args.by) if args.by else getpass.getuser()


def _short(text: str) -> str:
    plain = " ".join(text.split())
    return plain if len(plain) <= SNIPPET else plain[: SNIPPET - 1] + "…"
