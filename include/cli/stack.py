"""`up`, `down`, `demo`: the whole local stack, an embedded Postgres and Airflow with its UI."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import argparse

    from include.config import Settings
    from include.output import Output

DEFAULT_PORT = 8080
PORT_HELP = "of the UI on 127.0.0.1 (default 8080, else the next free)"


def register(commands: Any, common: argparse.ArgumentParser) -> None:
    """Add the commands."""
    parser = commands.add_parser("up", parents=[common], help="start Postgres and Airflow on this machine")
    parser.add_argument("--port", type=port, default=DEFAULT_PORT, help=PORT_HELP)
    parser.set_defaults(run=up)
    parser = commands.add_parser("down", parents=[common], help="stop them")
    parser.set_defaults(run=down)
    parser = commands.add_parser("demo", parents=[common], help="index the documentation through Airflow and ask it a question")
    parser.add_argument("--port", type=port, default=DEFAULT_PORT, help=PORT_HELP)
    parser.set_defaults(run=demo)


def port(text: str) -> int:
    """An argument that is a TCP port."""
    value = int(text)
    if not 1 <= value <= 65_535:
        raise ValueError(text)
    return value


def up(args: argparse.Namespace, settings: Settings, output: Output) -> None:
    """Start the stack."""
    from include.stack import airflow

    stack = airflow.up(settings, port=args.port, progress=output.line)
    output.result(asdict(stack))
    output.line(f"Airflow: {stack.url}  user: {stack.user}  password: in {stack.password_file}")
    output.line(f"Logs: {stack.logs}  stop: ragworks down")


def down(_: argparse.Namespace, settings: Settings, output: Output) -> None:
    """Stop the stack."""
    from include.stack import airflow

    stopped = airflow.down(settings, progress=output.line)
    output.result({"stopped": stopped})
    output.line(f"stopped {', '.join(stopped)}" if stopped else "nothing was running")


def demo(args: argparse.Namespace, settings: Settings, output: Output) -> None:
    """Run the demonstration."""
    from include.cli.demo import demo

    demo(settings, output, port=args.port)
