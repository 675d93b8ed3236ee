"""`make demo`: the main job on the project's own documentation, through Airflow, and a question answered from it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from include.cli.indexing import SHOWN, describe, show_documents
from include.cli.searching import as_result, show_hits
from include.errors import RagworksError
from include.indexing.pipeline import report
from include.retrieval.searcher import Searcher
from include.stack.airflow import up
from include.stack.api import AirflowApi
from include.store import runs
from include.store.pool import open_pool

if TYPE_CHECKING:
    from include.config import Settings
    from include.output import Output
    from include.store.pool import Pool

COLLECTION = "handbook"
QUESTION = "What happens to the live index when the indexing process is killed?"


def demo(settings: Settings, output: Output, *, port: int) -> None:
    """Start the stack, run ``index_handbook``, print what it did, ask a question.

    :raises RagworksError: the run failed; its logs are in the UI.
    """
    started = time.monotonic()
    stack = up(settings, port=port, progress=output.line)
    api, dag_id = AirflowApi(stack), f"index_{COLLECTION}"
    run_id = api.trigger(dag_id, {})
    output.line(f"\ntriggered {dag_id}: {stack.url}/dags/{dag_id}/runs/{run_id}")

    def show_task(task: str, ended: str, seconds: float) -> None:
        output.line(f"  {task:<10} {ended:<8} {seconds:5.1f} s")

    if api.follow(dag_id, run_id, seen=show_task) != "success":
        raise RagworksError(f"the run {run_id} failed", f"see its tasks at {stack.url}", "Correct the cause and run it again")
    with open_pool(settings) as pool:
        result = _report(output, pool, run_id)
        hits, passport = Searcher(settings, pool, COLLECTION).search(QUESTION, top_k=3)
    output.line(f"\nQ: {QUESTION}")
    show_hits(output, hits)
    seconds = round(time.monotonic() - started, 1)
    answer = {"question": QUESTION, "results": [as_result(hit) for hit in hits], "passport": passport}
    output.result(result | answer | {"seconds": seconds})
    output.line(f"\n{seconds} s. The UI: {stack.url}  user: {stack.user}  password: in {stack.password_file}")
    output.line("Edit a file in docs/ and run `make demo` again: only the edit costs anything. Stop all with `make down`.")
    output.line(f"Ask more: .venv/bin/ragworks search {COLLECTION} 'your question'")


def _report(output: Output, pool: Pool, run_id: str) -> dict[str, object]:
    """Print the plan and what each document became."""
    with pool.connection() as connection:
        result = report(connection, COLLECTION, run_id)
        became = runs.run_documents(connection, result["run"], limit=SHOWN)
        total = runs.count_documents(connection, result["run"])
    output.line("\nThe plan, and what each document became:")
    show_documents(output, became, total)
    for line in describe(result, planned=False):
        output.line(line)
    return result
