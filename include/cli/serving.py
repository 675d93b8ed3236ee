"""`serve`: the HTTP API; `keys`: who may use it."""

from __future__ import annotations

import logging
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from include.store.api_keys import SCOPES

if TYPE_CHECKING:
    import argparse

    from include.config import Settings
    from include.output import Output
    from include.store.api_keys import ApiKey

DEFAULT_PORT = 8000


def register(commands: Any, common: argparse.ArgumentParser) -> None:
    """Add the commands."""
    parser = commands.add_parser("serve", parents=[common], help="answer over HTTP: search, rerank, embeddings, chat")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default 127.0.0.1: this machine alone)")
    parser.add_argument("--port", type=port, default=DEFAULT_PORT, help=f"default {DEFAULT_PORT}")
    parser.add_argument("--no-auth", action="store_true", help="ask for no API key; on this machine alone")
    parser.add_argument("--metrics-open", action="store_true", help="show /metrics without an API key")
    parser.add_argument("--threads", type=count, default=8, metavar="N", help="searches at a time, and connections to Postgres")
    parser.add_argument("--answer-threads", type=count, default=16, metavar="N", help="answers written at a time")
    parser.add_argument("--waiting", type=count, default=64, metavar="N", help="requests that may wait; beyond it 429")
    parser.add_argument("--timeout", type=seconds, default=30.0, metavar="SECONDS", help="for a search (default 30)")
    parser.add_argument("--answer-timeout", type=seconds, default=120.0, metavar="SECONDS", help="for an answer (default 120)")
    parser.add_argument("--max-body", type=count, default=2_000_000, metavar="BYTES", help="largest request (default 2 MB)")
    parser.set_defaults(run=serve)
    _register_keys(commands, common)


def _register_keys(commands: Any, common: argparse.ArgumentParser) -> None:
    keys = commands.add_parser("keys", parents=[common], help="API keys: create, list, revoke")
    actions = keys.add_subparsers(dest="action", required=True, metavar="ACTION")
    parser = actions.add_parser("create", parents=[common], help="make a key; it is shown once")
    parser.add_argument("name", help="who uses it")
    parser.add_argument("--scope", action="append", choices=SCOPES, help="what it may do; repeatable (default: the first 5)")
    parser.add_argument("--collection", action="append", metavar="NAME", help="which it may ask; repeatable (default: all)")
    parser.add_argument("--principal", action="append", default=[], metavar="P", help="for whom it sees documents; repeatable")
    parser.add_argument("--requests-per-minute", type=count, metavar="N", help="at each replica (default: no limit)")
    parser.add_argument("--expires-days", type=count, metavar="N", help="days until it ends (default: never)")
    parser.set_defaults(run=create)
    parser = actions.add_parser("list", parents=[common], help="show every key's rights")
    parser.set_defaults(run=list_keys)
    parser = actions.add_parser("revoke", parents=[common], help="end a key, within seconds")
    parser.add_argument("name", help="the key's name")
    parser.set_defaults(run=revoke)


def count(text: str) -> int:
    """An argument that counts things: at least 1."""
    value = int(text)
    if not 1 <= value <= 1_000_000_000:
        raise ValueError(text)
    return value


def port(text: str) -> int:
    """An argument that is a TCP port; 0: any free one."""
    value = int(text)
    if not 0 <= value <= 65_535:
        raise ValueError(text)
    return value


def seconds(text: str) -> float:
    """An argument that is a time: more than 0, at most an hour."""
    value = float(text)
    if not 0 < value <= 3600:
        raise ValueError(text)
    return value


def serve(args: argparse.Namespace, settings: Settings, output: Output) -> None:
    """Serve until SIGTERM or Ctrl-C."""
    from include.serving.app import create_app
    from include.serving.options import Options
    from include.serving.server import Server
    from include.serving.service import open_service

    names = Options.__dataclass_fields__
    options = Options(**{name: value for name, value in vars(args).items() if name in names})
    logging.getLogger("include.serving").setLevel(logging.INFO)  # the access log, also without --verbose

    def started(url: str) -> None:
        output.result({"url": url, "openapi": f"{url}/openapi.json", "docs": f"{url}/docs"})
        output.line(f"Serving at {url}  API: {url}/docs and {url}/openapi.json  stop: Ctrl-C")
        output.line("Try:\n" + first_call(url, next(iter(service.names()), "handbook"), login=not options.no_auth))

    with open_service(settings, options) as service:
        server = Server(create_app(service), options, started)
        server.serve_until_stopped()


def first_call(url: str, collection: str, *, login: bool) -> str:
    """A line for a shell that searches."""
    header = ' -H "Authorization: Bearer $RAGWORKS_KEY"' if login else ""
    body = f'{{"collection": "{collection}", "query": "what is this about?"}}'
    return f"curl {url}/v1/search{header} -H 'Content-Type: application/json' -d '{body}'"


def create(args: argparse.Namespace, settings: Settings, output: Output) -> None:
    """Make a key."""
    from include.store import api_keys
    from include.store.pool import open_pool

    expires = datetime.now(UTC) + timedelta(days=args.expires_days) if args.expires_days else None
    with open_pool(settings) as pool, pool.connection() as connection:
        key = api_keys.create_key(
            connection, args.name, scopes=args.scope or api_keys.DEFAULT_SCOPES, collections=args.collection,
            principals=args.principal, requests_per_minute=args.requests_per_minute, expires_at=expires,
        )  # fmt: skip
        made = next(one for one in api_keys.keys(connection) if one.name == args.name)
    output.result({"key": key, **_as_json(made)})
    output.line(key)
    output.line(f"This is the key of {args.name}. It is not stored and cannot be shown again.")


def list_keys(_: argparse.Namespace, settings: Settings, output: Output) -> None:
    """Show the keys."""
    from include.store import api_keys
    from include.store.pool import open_pool

    with open_pool(settings) as pool, pool.connection() as connection:
        keys = api_keys.keys(connection)
    output.result({"keys": [_as_json(key) for key in keys]})
    columns = ("name", "state", "scopes", "collections", "principals", "per minute", "expires", "last used")
    output.table(columns, [_row(key) for key in keys])


def revoke(args: argparse.Namespace, settings: Settings, output: Output) -> None:
    """End a key."""
    from include.store import api_keys
    from include.store.pool import open_pool

    with open_pool(settings) as pool, pool.connection() as connection:
        key = api_keys.revoke_key(connection, args.name)
    output.result(_as_json(key))
    output.line(f"{args.name} is revoked; running servers take it up within seconds")


def _as_json(key: ApiKey) -> dict[str, Any]:
    return {
        "name": key.name, "state": key.state, "scopes": key.scopes, "collections": key.collections,
        "principals": key.principals, "requests_per_minute": key.requests_per_minute, "created_at": key.created_at,
        "expires_at": key.expires_at, "revoked_at": key.revoked_at, "last_used_at": key.last_used_at,
    }  # fmt: skip


def _row(key: ApiKey) -> tuple[Any, ...]:
    collections = "all" if key.collections is None else ", ".join(key.collections)
    times = [f"{t:%Y-%m-%d %H:%M}" if t else "" for t in (key.expires_at, key.last_used_at)]
    return key.name, key.state, ", ".join(key.scopes), collections, ", ".join(key.principals), key.requests_per_minute, *times
