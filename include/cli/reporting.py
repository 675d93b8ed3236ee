"""`report`, `shadow`: the page of a week, and how challengers do on live questions."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import argparse

    from include.config import Settings
    from include.output import Output

DAYS = 30


def register(commands: Any, common: argparse.ArgumentParser) -> None:
    """Add the commands."""
    parser = commands.add_parser(
        "report", parents=[common], help="a page about a week: signals, breaches, decisions, their effect"
    )
    parser.add_argument("name", metavar="NAME", help="collection")
    parser.add_argument("--week", metavar="WEEK", help="for example 2026-W48 (that of the newest measurement)")
    parser.add_argument("--list", dest="listed", action="store_true", help="the weeks that have a page")
    parser.set_defaults(run=report)
    parser = commands.add_parser("shadow", parents=[common], help="how challengers answer live questions, which nobody sees")
    parser.add_argument("name", metavar="NAME", help="collection")
    parser.add_argument("--days", type=int, default=DAYS, metavar="DAYS", help=f"of so many days ({DAYS})")
    parser.set_defaults(run=shadow)


def report(args: argparse.Namespace, settings: Settings, output: Output) -> None:
    """Write the page, or list what is written."""
    from include.monitoring import weekly
    from include.store.pool import open_pool

    if args.listed:
        weeks = weekly.published(settings, args.name)
        place = weekly.folder_shown(settings, args.name)
        output.result({"collection": args.name, "folder": place, "weeks": weeks})
        output.table(("week", "page"), [(week, f"{place}/{week}.html") for week in weeks])
        if not weeks:
            output.line(f"{args.name} has no pages yet: ragworks report {args.name}")
        return
    with open_pool(settings) as pool:
        week = args.week or weekly.newest_week(pool, args.name)
        page = weekly.publish_weekly_report(settings, pool, args.name, week)
    output.result({"collection": args.name, "week": week, "page": page})
    output.line(f"{args.name}, {week}: {page}")


def shadow(args: argparse.Namespace, settings: Settings, output: Output) -> None:
    """Show the figures by challenger."""
    from include.collection_file import load_collection
    from include.store import collections
    from include.store import shadow as compared
    from include.store.pool import open_pool

    share = load_collection(settings, args.name).monitoring.shadow
    now = datetime.now(UTC)
    with open_pool(settings) as pool, pool.connection() as connection:
        key = collections.collection_id(connection, args.name)
        rows = compared.summary(connection, key, now - timedelta(days=args.days), now)
    output.result({"collection": args.name, "share": share, "days": args.days, "challengers": rows})
    columns = ("training", "questions", "overlap", "rank-biased", "same first", "live p50 / p95", "challenger", "failed")
    output.table(columns, [_row(row) for row in rows])
    if not rows:
        output.line(
            "no challenger was asked: " + ("monitoring.shadow is 0" if not share else "there was none, or no question came")
        )


def _row(row: dict[str, Any]) -> tuple[Any, ...]:
    named = row["version"] if row["version"] is not None else f"of training {row['training']}"
    same = "" if row["same_first"] is None else f"{row['same_first']:.0%}"
    return (
        f"{row['family']} {named}, {row['state']}", row["questions"], _mean(row, "overlap"), _mean(row, "rbo"), same,
        _times(row["live_p50"], row["live_p95"]), _times(row["p50"], row["p95"]), row["failed"],
    )  # fmt: skip


def _mean(row: dict[str, Any], name: str) -> str:
    value, margin = row[name], row[f"{name}_margin"]
    return "" if value is None else f"{value:.3f}" if margin is None else f"{value:.3f} ± {margin:.3f}"


def _times(middle: float | None, slow: float | None) -> str:
    return "" if middle is None or slow is None else f"{1000 * middle:,.0f} / {1000 * slow:,.0f} ms"
