"""Sound collection files stay usable whatever lies beside them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from include.collection_file import load_collection
from include.config import Settings
from ragworks.catalogue import read_catalogue

if TYPE_CHECKING:
    from pathlib import Path

SOURCE = "source: {type: files, path: docs}\n"


@pytest.fixture
def folder(tmp_path: Path) -> Settings:
    return Settings(collections_dir=tmp_path)


def write(settings: Settings, **files: str) -> None:
    for name, content in files.items():
        (settings.collections_dir / name.replace("__", ".")).write_text(content)


def summary(settings: Settings) -> tuple[list[str], dict[str, str]]:
    sound, broken = read_catalogue(settings)
    for collection in sound:  # what the DAG says is what its tasks will load
        assert load_collection(settings, collection.name) == collection
    return [c.name for c in sound], {b.name: str(b.error) for b in broken}


def test_an_empty_folder_has_neither(folder: Settings) -> None:
    assert summary(folder) == ([], {})


def test_a_file_may_be_called_otherwise(folder: Settings) -> None:
    write(folder, manual__yaml=f"name: handbook\n{SOURCE}")
    assert summary(folder) == (["handbook"], {})


@pytest.mark.parametrize(
    "content",
    [
        "",
        "name: [",
        "just text",
        f"name: Bad-Name\n{SOURCE}",
        f"name: bad\nschedule: every day\n{SOURCE}",
        f"name: bad\nschedule: {{assets: ['']}}\n{SOURCE}",
        f"name: bad\nschedule: {{assets: ['airflow://reserved']}}\n{SOURCE}",
        f"name: bad\ndescription: 2025-13-45\n{SOURCE}",  # yaml makes a date of it: ValueError
        "\x00",
    ],
)
def test_a_broken_file_is_named_and_the_rest_stays(folder: Settings, content: str) -> None:
    write(folder, good__yaml=f"name: good\n{SOURCE}", bad__yaml=content)
    names, broken = summary(folder)
    assert names == ["good"]
    assert list(broken) == ["bad"]
    assert "bad.yaml" in broken["bad"]


def test_bytes_that_are_no_text(folder: Settings) -> None:
    (folder.collections_dir / "bad.yaml").write_bytes(b"\xff\xfe\x00")
    assert list(summary(folder)[1]) == ["bad"]


def test_a_copy_is_refused_and_its_original_stays(folder: Settings) -> None:
    write(folder, handbook__yaml=f"name: handbook\n{SOURCE}", copy__yaml=f"name: handbook\n{SOURCE}")
    names, broken = summary(folder)
    assert names == ["handbook"]
    assert "handbook.yaml stands for it as well" in broken["copy"]


def test_two_files_that_claim_a_third_name_are_both_refused(folder: Settings) -> None:
    write(folder, a__yaml=f"name: handbook\n{SOURCE}", b__yaml=f"name: handbook\n{SOURCE}")
    names, broken = summary(folder)
    assert names == []
    assert "b.yaml" in broken["a"]
    assert "a.yaml" in broken["b"]


def test_two_endings_of_one_name_get_dags_of_their_own(folder: Settings) -> None:
    write(folder, handbook__yaml=f"name: handbook\n{SOURCE}", handbook__yml=f"name: handbook\n{SOURCE}")
    names, broken = summary(folder)
    assert names == []
    assert list(broken) == ["handbook", "handbook_2"]


def test_a_name_that_another_file_is_called_by_is_refused(folder: Settings) -> None:
    """Commands take the file called so, so this DAG would index another collection than it says."""
    write(folder, handbook__yaml=f"name: other\n{SOURCE}", x__yaml=f"name: handbook\n{SOURCE}")
    names, broken = summary(folder)
    assert names == ["other"]
    assert "handbook.yaml" in broken["x"]


def test_a_name_that_no_dag_may_have(folder: Settings) -> None:
    (folder.collections_dir / "my docs (1).yaml").write_text("")
    assert list(summary(folder)[1]) == ["my_docs__1_"]
