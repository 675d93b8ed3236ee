"""Index the same changing documents with Ragworks, LangChain, LlamaIndex and CocoIndex: seconds, texts, right or wrong.

    python -m bench.incremental --series ../shared/data/docs-history/diffusers-releases --from v15 --to v16 \
        --peer-python /path/to/peers/bin/python --embedder minilm

Every peer has its own process, its own database on one Postgres, the same files, the same chunks (Ragworks' chunker) and
the same model; see bench/requirements.txt for the peers' environment. Written: the JSON report, a Markdown page and plots
beside it.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from bench.incremental import trees
from bench.incremental.cases import Cases, Plan
from bench.incremental.peers import PEERS, Peer
from bench.incremental.report import write_page
from bench.workload import server
from bench.workload.process import ROOT, environment, stop_cleanly


def main() -> int:
    """Run every peer through every case, then write the report. Exit 1 when Ragworks is wrong anywhere."""
    arguments = _arguments()
    stop_cleanly()
    chosen = [peer for peer in PEERS if peer.name in arguments.peers]
    with tempfile.TemporaryDirectory(prefix="ragworks-incremental-") as folder:
        plan = _plan(arguments, Path(folder))
        report = _environment(arguments, plan)
        with server.server(Path(folder) / "home") as url, _bars() as bars:
            for peer in chosen:
                report["peers"][peer.name] = _run(peer, arguments, url, Path(folder), plan, bars)
                _save(report, arguments.out)
    write_page(report, arguments.out.with_suffix(".md"))
    _plot(arguments)
    ours = report["peers"].get("ragworks", {"cases": {}})
    wrong = [name for name, case in ours["cases"].items() if not case.get("check", {}).get("right")]
    if wrong:
        print(f"Ragworks is wrong or failed in: {', '.join(wrong)}", file=sys.stderr)
    return 1 if wrong else 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--series", type=Path, required=True, help="a folder with materialize.py and vNN.tar.gz")
    parser.add_argument("--from", dest="before", default="v15")
    parser.add_argument("--to", dest="after", default="v16")
    names = ",".join(peer.name for peer in PEERS)
    parser.add_argument("--peers", type=lambda text: text.split(","), default=names.split(","), help=names)
    parser.add_argument("--peer-python", default=sys.executable, help="interpreter of bench/requirements.txt")
    parser.add_argument("--embedder", choices=("fake", "minilm"), default="fake", help="fake: a hash of the text, instant")
    parser.add_argument("--embed-ms", type=float, default=0.0, help="milliseconds a text costs the fake embedder")
    parser.add_argument("--max-tokens", type=int, default=200)
    parser.add_argument("--other-max-tokens", type=int, default=150, help="the changed setting of the case `config`")
    parser.add_argument("--repeat", type=int, default=5, help="unchanged runs; their median counts")
    parser.add_argument("--kills", nargs="*", type=_moment, default=[0.2, 0.5, 0.8, "written"],
                        help="shares of the step's seconds; `written`: before a peer saves its own notes")  # fmt: skip
    parser.add_argument("--files", type=int, default=0, help="only so many files of each version, to try the command")
    parser.add_argument("--limit", type=float, default=900.0, help="most seconds of one process")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "benchmarks" / "incremental.json")
    return parser.parse_args()


def _moment(text: str) -> float | str:
    return text if text == "written" else float(text)


def _plan(arguments: argparse.Namespace, folder: Path) -> Plan:
    before, after = (
        trees.materialize(arguments.series, v, folder, files=arguments.files) for v in (arguments.before, arguments.after)
    )
    return Plan(
        before, after, arguments.embedder, arguments.embed_ms, arguments.max_tokens, arguments.other_max_tokens,
        arguments.repeat, tuple(arguments.kills), arguments.limit,
    )  # fmt: skip


def _environment(arguments: argparse.Namespace, plan: Plan) -> dict[str, Any]:
    return {
        "made": datetime.now(UTC).date().isoformat(),
        "machine": f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}",
        "corpus": f"{arguments.series.name} {arguments.before} → {arguments.after}",
        "files": [sum(1 for _ in tree.rglob("*.md")) for tree in (plan.before, plan.after)],
        "chunks": [plan.want(tree, plan.max_tokens).total() for tree in (plan.before, plan.after)],
        "embedder": plan.embedder,
        "embed_ms": plan.delay_ms,
        "max_tokens": [plan.max_tokens, plan.other_max_tokens],
        "kills": list(plan.kills),
        "peers": {},
    }


def _run(peer: Peer, arguments: argparse.Namespace, url: str, folder: Path, plan: Plan, bars: Progress) -> dict[str, Any]:
    """One peer; whatever goes wrong with it stays its own."""
    python = sys.executable if peer.ours else arguments.peer_python
    versions = _versions(python, peer)
    found: dict[str, Any] = {"title": peer.title, "versions": versions, "cases": {}}
    missing = [name for name, version in versions.items() if version is None]
    bar = bars.add_task(peer.title, total=plan.count, case="")
    if missing:
        bars.update(bar, case=f"not installed: {', '.join(missing)}")
        return found | {"cases": {"first": {"error": f"not installed: {', '.join(missing)}"}}}
    done = 0

    def tell(case: str) -> None:
        nonlocal done
        bars.update(bar, completed=done, case=case)
        if not bars.console.is_terminal:
            bars.console.print(f"{datetime.now(UTC):%H:%M:%S} {peer.title}: {case}")
        done += 1

    work = folder / peer.name
    work.mkdir()
    found["cases"] = Cases(peer, python, url, work, plan, tell).run()
    bars.update(bar, total=done, completed=done, case="done")
    return found


def _versions(python: str, peer: Peer) -> dict[str, str | None]:
    code = (
        "import json, sys\nfrom importlib.metadata import PackageNotFoundError, version\nfound = {}\n"
        "for name in sys.argv[1:]:\n    try: found[name] = version(name)\n"
        "    except PackageNotFoundError: found[name] = None\nprint(json.dumps(found))"
    )
    done = subprocess.run([python, "-c", code, *peer.packages], capture_output=True, text=True, check=True)
    versions: dict[str, str | None] = json.loads(done.stdout)
    return versions


def _bars() -> Progress:
    columns = TextColumn("{task.description:<30}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
    return Progress(*columns, TextColumn("{task.fields[case]}"), console=Console(stderr=True))


def _save(report: dict[str, Any], path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(report, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def _plot(arguments: argparse.Namespace) -> None:
    """In the peers' Python, which has matplotlib; a report without plots is a report."""
    command = [arguments.peer_python, "-m", "bench.incremental.plots", str(arguments.out.resolve())]
    done = subprocess.run(command, cwd=ROOT, env=environment(), capture_output=True, text=True, check=False)
    if done.returncode:
        print(f"no plots: {done.stderr.strip().splitlines()[-1]}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
