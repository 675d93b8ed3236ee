"""`serve-llm`: promoted language models over HTTP; `export-llm`: a version for another server, or in fewer bits."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from include.cli.serving import count, port

if TYPE_CHECKING:
    import argparse

    from include.cli.output import Output
    from include.config import Settings

DEFAULT_PORT = 8010  # of config.LLM_SERVER


def register(commands: Any, common: argparse.ArgumentParser) -> None:
    """Add the commands."""
    from include.serving.llm.options import PRECISIONS

    parser = commands.add_parser("serve-llm", parents=[common], help="answer with promoted language models, as OpenAI does")
    parser.add_argument("collections", nargs="*", metavar="COLLECTION", help="whose champions (default: all that have one)")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default 127.0.0.1: this machine alone)")
    parser.add_argument("--port", type=port, default=DEFAULT_PORT, help=f"default {DEFAULT_PORT}")
    parser.add_argument(
        "--precision", choices=PRECISIONS, default="full", help="of the base's weights (default: as in its files)"
    )
    parser.add_argument("--device", default="auto", help="auto (default): a GPU where there is one; or cpu, cuda, cuda:1")
    parser.add_argument("--batch", type=count, default=8, metavar="N", help="answers written together (default 8)")
    parser.add_argument("--adapters", type=count, default=8, metavar="N", help="versions kept ready on a base (default 8)")
    parser.add_argument("--waiting", type=count, default=64, metavar="N", help="requests that may wait; beyond it 429")
    parser.add_argument("--max-body", type=count, default=2_000_000, metavar="BYTES", help="largest request (default 2 MB)")
    parser.set_defaults(run=serve_llm)


def serve_llm(args: argparse.Namespace, settings: Settings, output: Output) -> None:
    """Serve until SIGTERM or Ctrl-C."""
    from include.config import load_collection
    from include.serving.llm.app import create_llm_app
    from include.serving.llm.options import LlmOptions
    from include.serving.llm.roster import Roster
    from include.serving.server import Server
    from include.store.pool import open_pool

    given = {name: value for name, value in vars(args).items() if name in LlmOptions.__dataclass_fields__}
    options = LlmOptions(**(given | {"collections": tuple(args.collections)}))
    options.check(settings.llm_server_key)
    for name in options.collections:
        load_collection(settings, name)  # one that does not exist is said now
    logging.getLogger("include.serving").setLevel(logging.INFO)  # the access log, also without --verbose

    def started(url: str) -> None:
        output.result({"url": f"{url}/v1", "models": f"{url}/v1/models"})
        output.line(f"Serving language models at {url}/v1  champions are loaded now and whenever they change  stop: Ctrl-C")

    with open_pool(settings, max_size=4) as pool:
        app = create_llm_app(Roster(settings, pool, options), options, settings.llm_server_key)
        Server(app, options, started).serve_until_stopped()
