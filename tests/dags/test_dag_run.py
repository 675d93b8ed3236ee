"""Index DAGs from the first task to the last, on Postgres and with the real model."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from include.errors import BadConfiguration, Transient
from tests.support import export, index, query

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from include.config import Settings
    from tests.dags.conftest import DagRunResult


@pytest.fixture
def handbook(collection: Callable[..., str], documents: Path) -> str:
    (documents / "pools.md").write_text("# Pools\n\nA pool limits how many tasks run at once.\n")
    (documents / "assets.md").write_text("# Assets\n\nAn asset event starts the runs that wait for it.\n")
    (documents / "timetables.md").write_text("# Timetables\n\nA timetable says when a run starts.\n")
    return collection("handbook")


def test_the_first_run_fills_the_index_and_announces_it(
    handbook: str, run_dag: Callable[..., DagRunResult], settings: Settings
) -> None:
    result = run_dag("index_handbook")
    assert result.state == "success"
    assert result.tasks == {t: ["success"] for t in ("plan", "index", "validate", "publish")} | {"evaluate": ["skipped"]}
    assert {row["document"] for row in export(settings, handbook)} == {"pools.md", "assets.md", "timetables.md"}
    [(run, generation, state)] = query(
        settings, "select id, generation_id, state from ragworks.run where key = %s", result.run_id
    )
    assert state == "done"
    assert result.events == [
        {
            "asset": "ragworks.handbook.index",
            "extra": {
                "run": run,
                "generation": generation,
                "total": 3,
                "embedded": 3,
                "reused": 0,
                "written": 3,
                "deleted": 0,
                "quarantined": 0,
            },
        }
    ]


def test_an_unchanged_run_is_no_news(handbook: str, run_dag: Callable[..., DagRunResult], settings: Settings) -> None:
    run_dag("index_handbook")
    result = run_dag("index_handbook")
    assert result.state == "success"
    assert result.tasks == {
        "plan": ["success"],
        "index": ["skipped"],
        "validate": ["success"],
        "publish": ["skipped"],
        "evaluate": ["skipped"],
    }
    assert result.events == []
    counts = query(settings, "select state, embedded, written from ragworks.run where key = %s", result.run_id)
    assert counts == [("done", 0, 0)]


def test_a_deletion_is_published_with_nothing_to_embed(
    handbook: str, run_dag: Callable[..., DagRunResult], settings: Settings, documents: Path
) -> None:
    run_dag("index_handbook")
    (documents / "pools.md").unlink()
    stopped = run_dag("index_handbook")  # one of three is more than max_deleted
    assert (stopped.state, stopped.tasks["plan"], stopped.tries["plan"]) == ("failed", ["failed"], 1)
    assert len(export(settings, handbook)) == 3
    result = run_dag("index_handbook", allow_deletes=True)
    assert result.tasks == {
        "plan": ["success"],
        "index": ["skipped"],
        "validate": ["success"],
        "publish": ["success"],
        "evaluate": ["skipped"],
    }
    assert {row["document"] for row in export(settings, handbook)} == {"assets.md", "timetables.md"}
    assert [event["extra"]["deleted"] for event in result.events] == [1]


def test_a_person_lets_a_run_go_on_without_refused_documents(
    handbook: str, run_dag: Callable[..., DagRunResult], settings: Settings, documents: Path
) -> None:
    run_dag("index_handbook")
    for name in ("one", "two"):
        (documents / f"{name}.md").write_text("")
    (documents / "pools.md").write_text("# Pools\n\nEdited.\n")
    stopped = run_dag("index_handbook")
    assert (stopped.state, stopped.tasks["plan"], stopped.tries["plan"]) == ("failed", ["failed"], 1)
    assert run_dag("index_handbook", acknowledge=True).state == "success"
    assert any("Edited." in row["text"] for row in export(settings, handbook))
    for name in ("three", "four"):  # what it refuses itself is no person's word
        (documents / f"{name}.md").write_text("")
    assert run_dag("index_handbook", acknowledge=True).state == "failed"


def test_a_plan_says_what_would_be_done_and_does_nothing(
    handbook: str, run_dag: Callable[..., DagRunResult], settings: Settings, documents: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    run_dag("index_handbook")
    (documents / "pools.md").write_text("# Pools\n\nA pool has slots.\n")
    (documents / "assets.md").unlink()
    before = export(settings, handbook)
    capfd.readouterr()
    result = run_dag("index_handbook", mode="plan")
    log = capfd.readouterr().out
    assert "Plan: 0 added, 1 changed, 0 metadata only, 0 renamed, 1 deleted, 1 unchanged; to embed: 1" in log
    assert "deleted  assets.md  no longer in the source" in log
    assert "changed  pools.md   its content changed" in log
    assert "This would stop the run: this run would delete 1 of 3 documents" in log
    assert result.state == "success"
    assert result.tasks == {
        "plan": ["success"],
        "index": ["skipped"],
        "validate": ["skipped"],
        "publish": ["skipped"],
        "evaluate": ["skipped"],
    }
    assert export(settings, handbook) == before
    assert result.events == []
    planned = query(
        settings,
        "select d.uri, d.action from ragworks.run_document d join ragworks.run r on r.id = d.run_id where r.key = %s"
        " order by 1",
        result.run_id,
    )
    assert planned == [("assets.md", "deleted"), ("pools.md", "changed")]
    assert query(settings, "select state from ragworks.run where key = %s", result.run_id) == [("planned",)]


def test_rollback_from_the_form(
    handbook: str, run_dag: Callable[..., DagRunResult], settings: Settings, collection: Callable[..., str]
) -> None:
    run_dag("index_handbook")
    before = export(settings, handbook)
    collection("handbook", chunking={"max_tokens": 8})
    run_dag("index_handbook")
    assert len(export(settings, handbook)) > len(before)
    result = run_dag("index_handbook", mode="rollback")
    assert result.tasks == {
        "plan": ["success"],
        "index": ["skipped"],
        "validate": ["success"],
        "publish": ["success"],
        "evaluate": ["skipped"],
    }
    assert export(settings, handbook) == before
    [event] = result.events
    assert (event["extra"]["generation"], event["extra"]["replaced"], event["extra"]["behind"]) == (1, 2, 0)
    held = run_dag("index_handbook")
    assert held.tasks["publish"] == ["skipped"]
    assert export(settings, handbook) == before


def test_xcom_carries_worker_numbers_only(handbook: str, run_dag: Callable[..., DagRunResult]) -> None:
    result = run_dag("index_handbook", workers=2)
    assert result.xcoms == {"plan.return_value": [0, 1]}
    assert result.tasks["index"] == ["success", "success"]


def test_there_are_never_more_workers_than_documents(handbook: str, run_dag: Callable[..., DagRunResult]) -> None:
    assert run_dag("index_handbook", workers=32).xcoms == {"plan.return_value": [0, 1, 2]}


def test_a_missing_folder_fails_at_once_and_is_noted(
    collection: Callable[..., str], run_dag: Callable[..., DagRunResult], settings: Settings, tmp_path: Path
) -> None:
    collection("lost", source={"type": "files", "path": str(tmp_path / "nowhere")})
    result = run_dag("index_lost")
    assert result.state == "failed"
    assert result.tasks == {
        "plan": ["failed"],
        "index": ["upstream_failed"],
        "validate": ["upstream_failed"],
        "publish": ["upstream_failed"],
        "evaluate": ["upstream_failed"],
    }
    assert result.tries["plan"] == 1  # Terminal: not tried again
    [(state, error)] = query(settings, "select state, error from ragworks.run where key = %s", result.run_id)
    assert state == "failed"
    assert "nowhere does not exist" in error


def test_a_broken_collection_file_leaves_the_others_alone(
    handbook: str, run_dag: Callable[..., DagRunResult], settings: Settings
) -> None:
    (settings.collections_dir / "typo.yaml").write_text(
        "name: typo\nsource: {type: files, path: docs}\nchunking: {max_token: 9}\n"
    )
    broken = run_dag("index_typo")
    assert (broken.state, broken.tasks, broken.tries) == ("failed", {"collection_file": ["failed"]}, {"collection_file": 1})
    assert run_dag("index_handbook").state == "success"


def test_the_error_of_a_broken_file_is_shown(in_environment: Settings) -> None:
    from tests.dags.snapshot import load_dags

    (in_environment.collections_dir / "typo.yaml").write_text("name: typo\nsource: {type: files, path: docs}\nchunks: 9\n")
    dag = load_dags()["index_typo"]
    assert "broken" in dag.tags
    assert "chunks: unknown key" in (dag.doc_md or "")
    with pytest.raises(BadConfiguration, match="chunks: unknown key"):
        dag.get_task("collection_file").execute({})


def test_a_time_limit_is_noted_on_the_run(handbook: str, in_environment: Settings) -> None:
    from airflow.sdk.exceptions import AirflowTaskTimeout

    from ragworks.operators.indexing import _working

    index(in_environment, handbook, key="slow")
    with pytest.raises(Transient, match="execution_timeout"), _working(handbook, "slow"):
        raise AirflowTaskTimeout("2 h")
    [(state, error)] = query(in_environment, "select state, error from ragworks.run where key = 'slow'")
    assert (state, "execution_timeout" in error) == ("failed", True)


def test_a_retry_after_a_crash_still_announces_what_the_first_try_published(handbook: str, in_environment: Settings) -> None:
    from airflow.sdk.execution_time.context import OutletEventAccessors

    from ragworks.assets import index_asset
    from ragworks.operators.indexing import PublishIndexOperator

    index(in_environment, handbook, key="crashed")  # all of it done, but Airflow was never told
    events = OutletEventAccessors()
    operator = PublishIndexOperator(task_id="publish", collection=handbook, run_key="crashed")
    operator.execute({"outlet_events": events})  # type: ignore[typeddict-item]
    assert events[index_asset(handbook)].extra["written"] == 3


def test_what_is_published_is_scored_on_the_golden_queries(
    handbook: str, run_dag: Callable[..., DagRunResult], settings: Settings, documents: Path
) -> None:
    from include.store import collections, golden
    from include.store.pool import open_pool

    run_dag("index_handbook")
    asked = golden.GoldenQuery("How many tasks run at once?", (golden.GoldenSpan("pools.md"),))
    with open_pool(settings) as pool, pool.connection() as connection:
        golden.save(connection, collections.collection_id(connection, handbook), [asked])
    (documents / "assets.md").write_text("# Assets\n\nAn event of an asset starts the runs that wait for it.\n")
    result = run_dag("index_handbook")
    assert (result.state, result.tasks["evaluate"]) == ("success", ["success"])
    [(key, generation, queries, value)] = query(
        settings,
        "select r.key, e.generation_id, e.report -> 'questions' -> 'queries', e.report -> 'measures' -> 'ndcg@10' -> 'value'"
        " from ragworks.evaluation e join ragworks.run r on r.id = e.run_id",
    )
    assert (key, generation, queries, value) == (result.run_id, 1, 1, 1.0)
