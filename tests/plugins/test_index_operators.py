"""What the operators refuse, say and announce before they reach a database; runs are in tests/dags."""

from __future__ import annotations

from pathlib import Path

import pytest

from include.collection_file import read_collection
from include.errors import BadConfiguration
from include.store.runs import RunDocument
from ragworks.assets import champion_asset, feedback_asset, index_asset, retrain_asset
from ragworks.manual import describe_collection
from ragworks.operators.indexing import SHOWN, PlanIndexOperator, _describe
from ragworks.params import index_params


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ({"mode": "everything"}, "mode 'everything'.*incremental, plan, plan_rebuild, rebuild"),
        ({"allow_deletes": "maybe"}, "allow_deletes 'maybe'"),
        ({"acknowledge": "maybe"}, "acknowledge 'maybe'"),
        ({"workers": "0"}, "workers '0'.*1 to 32"),
        ({"workers": 33}, "workers 33"),
        ({"workers": "many"}, "workers 'many'"),
    ],
)
def test_impossible_arguments_are_refused(argument: dict[str, object], message: str) -> None:
    operator = PlanIndexOperator(task_id="plan", collection="handbook", **argument)  # type: ignore[arg-type]
    with pytest.raises(BadConfiguration, match=message):
        operator.execute({})  # type: ignore[arg-type, typeddict-item]


@pytest.mark.parametrize(
    ("key", "value", "good"),
    [
        ("mode", "rebuild", True),
        ("mode", "plan_rebuild", True),
        ("mode", "Rebuild", False),
        ("allow_deletes", True, True),
        ("allow_deletes", "true", False),
        ("workers", 32, True),
        ("workers", 0, False),
        ("workers", 33, False),
        ("workers", 1.5, False),
    ],
)
def test_the_form_checks_what_it_is_given(key: str, value: object, good: bool) -> None:
    from airflow.sdk.exceptions import ParamValidationError

    param = index_params()[key]
    if good:
        assert param.resolve(value) == value
    else:
        with pytest.raises(ParamValidationError):
            param.resolve(value)


def test_a_long_plan_is_cut(tmp_path: Path) -> None:
    documents = [RunDocument(f"{n:03}.md", "added", "new in the source", None, None) for n in range(SHOWN)]
    plan = {"added": SHOWN + 7, "unchanged": 2, "pending": SHOWN + 7, "stopped": ""}
    lines = _describe(plan, documents, total=SHOWN + 7)
    assert lines[0] == "Plan: 57 added, 0 changed, 0 metadata only, 0 renamed, 0 deleted, 2 unchanged; to embed: 57"
    assert lines[1] == "added  000.md  new in the source"
    assert lines[-1] == "… and 7 more documents"
    assert len(lines) == SHOWN + 2


def test_asset_names_are_the_contract() -> None:
    assert index_asset("handbook").name == "ragworks.handbook.index"
    assert feedback_asset("handbook").name == "ragworks.handbook.feedback"
    assert champion_asset("reranker").name == "ragworks.reranker.champion"
    assert retrain_asset("reranker").name == "ragworks.reranker.retrain"


def test_the_page_of_a_dag_shows_no_credentials(tmp_path: Path) -> None:
    path = tmp_path / "secret.yaml"
    path.write_text(
        "name: secret\nschedule: {assets: [upstream], cron: '0 3 * * *'}\n"
        "source: {type: files, path: 'sftp://me:hunter2@host/docs'}\n"
    )
    page = describe_collection(read_collection(path))
    assert "hunter2" not in page
    assert "sftp://…@host/docs" in page
    assert "`upstream`; and at `0 3 * * *` (cron, UTC)" in page
    assert "over 5% of its documents are refused, or over 20% would vanish" in page


def test_airflow_finds_the_one_plugin_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    from airflow._shared.module_loading import find_path_from_directory

    plugins = Path(__file__).resolve().parents[2] / "plugins"
    found = [Path(path) for path in find_path_from_directory(str(plugins), ".airflowignore", "glob")]
    assert [path.name for path in found if path.suffix == ".py"] == ["ragworks_plugin.py"]


def test_schedules_are_in_utc() -> None:
    from airflow.sdk import CronTriggerTimetable

    from include.collection_file import Collection, FilesSource
    from ragworks.schedules import schedule_of

    collection = Collection(name="handbook", schedule="0 3 * * *", source=FilesSource(type="files", path="docs"))
    timetable = schedule_of(collection)
    assert isinstance(timetable, CronTriggerTimetable)
    assert str(timetable.timezone) == "UTC"
