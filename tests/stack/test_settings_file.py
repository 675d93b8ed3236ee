"""Astro's settings file read outside the Astro CLI."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from include.config import PROJECT_ROOT
from include.errors import BadConfiguration
from include.stack.settings_file import connection_from_url, read_airflow_settings, with_database

if TYPE_CHECKING:
    from pathlib import Path

SETTINGS = """
airflow:
  connections:
    - {conn_id: as_mapping, conn_type: aws, conn_extra: {region: eu, nested: {retries: 3}}}
    - {conn_id: as_text, conn_type: http, conn_host: example.org, conn_port: 443, conn_extra: '{"timeout": 5}'}
    - {conn_id: as_uri, conn_uri: 'postgresql://u:p@h:5/d', conn_type: null, conn_host: ''}
    - {conn_id: both, conn_type: postgres, conn_host: wins, conn_uri: 'postgresql://u:p@loses:5/d'}
    - {conn_id: '', conn_type: '', conn_host: ''}
  pools:
    - {pool_name: gpu, pool_slot: 2, pool_include_deferred: true}
    - {pool_name: null, pool_slot: null}
  variables:
    - {variable_name: number, variable_value: 5}
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "airflow_settings.yaml"
    path.write_text(SETTINGS)
    return path


def test_connections_keep_their_extra_however_it_is_written(file: Path) -> None:
    mapping, text, uri, both = (c.arguments() for c in read_airflow_settings(file).connections)
    assert json.loads(mapping["extra"]) == {"region": "eu", "nested": {"retries": 3}}
    assert text == {"conn_id": "as_text", "conn_type": "http", "host": "example.org", "port": 443, "extra": '{"timeout": 5}'}
    assert uri == {"conn_id": "as_uri", "uri": "postgresql://u:p@h:5/d"}
    assert both["host"] == "wins"
    assert "uri" not in both


def test_pools_and_variables(file: Path) -> None:
    found = read_airflow_settings(file)
    assert [(p.pool_name, p.pool_slot, p.pool_include_deferred) for p in found.pools] == [("gpu", 2, True)]
    assert [(v.variable_name, v.variable_value) for v in found.variables] == [("number", "5")]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("airflow: {connections: [{conn_id: x, conn_type: y, conn_pasword: secret-value}]}", r"connections\.0\.conn_pasword"),
        ("airflow: {connections: [{conn_id: x, conn_port: secret-value}]}", r"connections\.0\.conn_port"),
        ("airflow: {pools: [{pool_name: gpu}]}", r"pools\.0\.pool_slot: Field required"),
        ("airflow: {pool: []}", r"pool: Extra inputs"),
        ("pools: []", "no section 'airflow'"),
        ("airflow: [", "not YAML near line 1"),
    ],
)
def test_a_mistake_is_named_by_key_and_never_by_value(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "airflow_settings.yaml"
    path.write_text(text)
    with pytest.raises(BadConfiguration, match=message) as caught:
        read_airflow_settings(path)
    assert str(path) in str(caught.value)
    assert "secret-value" not in str(caught.value)


def test_an_address_becomes_a_connection() -> None:
    found = connection_from_url("c", "postgresql://me:p%40ss@db.example:6000/rag?sslmode=require")
    assert found.arguments() == {
        "conn_id": "c", "conn_type": "postgres", "host": "db.example", "schema": "rag", "login": "me",
        "password": "p@ss", "port": 6000, "extra": '{"sslmode": "require"}',
    }  # fmt: skip
    assert "p@ss" not in repr(found)
    with pytest.raises(BadConfiguration, match="RAGWORKS_DATABASE_URL") as caught:
        connection_from_url("c", "not-an-address secret-value")
    assert "secret-value" not in str(caught.value)


def test_the_project_file_gives_what_the_dags_need() -> None:
    found = read_airflow_settings(PROJECT_ROOT / "airflow_settings.yaml")
    assert [c.conn_id for c in found.connections] == ["ragworks_postgres"]
    assert [(p.pool_name, p.pool_slot, p.pool_include_deferred) for p in found.pools] == [("gpu", 1, True)]
    placed = with_database(found, "postgresql://u:p@127.0.0.1:1234/ragworks").connections
    assert [(c.conn_id, c.conn_port) for c in placed] == [("ragworks_postgres", 1234)]
