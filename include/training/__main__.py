"""The command that a pod or a child process runs: `python -m include.training FAMILY --run-key KEY`.

It takes the key alone and reads the rest from the row; what it has to say goes there too.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
from contextlib import nullcontext
from importlib import import_module
from typing import TYPE_CHECKING, Any

import psycopg

from include.config import Settings
from include.errors import BadConfiguration, RagworksError
from include.output import Output
from include.store import model_runs
from include.store.errors import translate
from include.store.pool import open_pool
from include.training.pipeline import failing

if TYPE_CHECKING:
    from collections.abc import Sequence

    from include.store.pool import Pool

# What each step calls: (module, function), imported when it is done.
STEPS = {
    "baseline": ("include.evaluation.challenge", "baseline"),
    "train": ("include.training.train", "train"),
    "merge": ("include.training.llm.candidates", "merge_candidates"),
    "evaluate": ("include.evaluation.challenge", "evaluate_challenger"),
}


def main(given: Sequence[str] | None = None) -> int:
    """Run one step of a training.

    :return: 0 done, also when it was done before; 65 it cannot be done as it was asked for; 69 a service is not there;
        75 interrupted after a checkpoint, or try again later; 2 usage; 1 anything else.
    """
    args = _parser().parse_args(given)
    output = Output(as_json=args.json)
    _log(quiet=sys.stderr.isatty())
    try:
        # 1. Settings, database, row.
        settings = Settings.from_environment()
        with output.progress() as progress, open_pool(settings) as pool:
            _check_family(pool, args.run_key, args.family)
            # 2. The step.
            module, function = STEPS[args.step]
            step = getattr(import_module(module), function)
            with failing(pool, args.run_key) if args.step == "baseline" else nullcontext():
                step(settings, pool, args.run_key, progress=progress)
            # 3. What it came to.
            result = _result(pool, args.run_key)
    except RagworksError as error:
        return _fail(output, str(error), error.exit_code)
    except KeyboardInterrupt:
        return _fail(output, "interrupted: the last checkpoint is kept, run it again to go on", 75)
    except psycopg.Error as error:
        known = translate(error)
        return _fail(output, str(known or f"Postgres refused a statement ({error})"), known.exit_code if known else 1)
    except Exception as error:
        logging.getLogger(__name__).exception("this is a defect: please report it")
        return _fail(output, f"{type(error).__name__}: {error}. This is a defect: please report it", 1)
    output.result(result)
    output.line(f"{result['family']} of {result['run_key']}: {result['state']}, {result['artifact']}")
    return 0


def _parser() -> argparse.ArgumentParser:
    from include.training.train import TRAINERS

    parser = argparse.ArgumentParser(prog="python -m include.training", description=__doc__)
    parser.add_argument("family", choices=sorted(TRAINERS), help="what is trained")
    parser.add_argument("--run-key", required=True, metavar="KEY", help="of the row that says the rest")
    parser.add_argument(
        "--step",
        choices=STEPS,
        default="train",
        help="baseline: score what serves now; train (default); merge: an llm's adapters; evaluate: champion and challenger",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object on stdout")
    return parser


def _check_family(pool: Pool, run_key: str, family: str) -> None:
    with pool.connection() as connection:
        run = model_runs.by_key(connection, run_key)
    if run.family != family:
        raise BadConfiguration(f"training {run_key}", f"it is of the {run.family}", f"Write {run.family} instead of {family}")


def _result(pool: Pool, run_key: str) -> dict[str, Any]:
    with pool.connection() as connection:
        run = model_runs.by_key(connection, run_key)
    return {
        "run_key": run.run_key,
        "family": run.family,
        "state": run.state,
        "step": run.step,
        "artifact": run.artifact,
        "fingerprint": run.fingerprint,
        "attempts": run.attempts,
        "resumed_from": run.training.get("resumed_from", []),
        "baseline": run.training.get("baseline"),
        "best": run.training.get("best"),
        "gpu_seconds": round(run.gpu_seconds, 1),
        "cost": run.cost,
    }


def _fail(output: Output, message: str, code: int) -> int:
    print(f"training: {message}", file=sys.stderr)
    output.result({"error": message, "exit_code": code})
    return code


def _log(*, quiet: bool) -> None:
    """A line each few steps where nobody sees bars; the libraries' own lines are about themselves."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    logging.getLogger("include").setLevel(logging.WARNING if quiet else logging.INFO)
    logging.getLogger("psycopg.pool").setLevel(logging.ERROR)


if __name__ == "__main__":
    sys.exit(main())
