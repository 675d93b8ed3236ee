"""What Airflow's connections become."""

from __future__ import annotations

import json
from typing import Any

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict

from include.collection_file import Collection
from include.errors import BadConfiguration
from include.sources import open_source
from ragworks.hooks.ragworks import settings_from_airflow, source_options, sql_url, storage_options


@pytest.fixture
def connect(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Defines an Airflow connection as a deployment may: in the environment."""

    def define(conn_id: str, **values: Any) -> None:
        monkeypatch.setenv(f"AIRFLOW_CONN_{conn_id.upper()}", json.dumps(values))

    return define


def test_the_connection_wins_over_the_environment(connect: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAGWORKS_DATABASE_URL", "postgresql://elsewhere/db")
    connect("ragworks_postgres", conn_type="postgres", host="db.example", port=6543, login="rag", schema="vectors")
    assert settings_from_airflow().database_url == "postgresql://rag@db.example:6543/vectors"


@pytest.mark.parametrize("url", ["postgresql://elsewhere/db", None])
def test_without_it_the_environment_counts(
    url: str | None, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.delenv("AIRFLOW_CONN_RAGWORKS_POSTGRES", raising=False)
    monkeypatch.setenv("RAGWORKS_DATABASE_URL", url or "")
    caplog.set_level("INFO")
    assert settings_from_airflow().database_url == url
    assert ("RAGWORKS_DATABASE_URL" if url else "embedded server") in caplog.text


def test_every_part_survives_the_url(connect: Any) -> None:
    login, password, schema = "us er@corp", "p:/?#[]@%&ä'\"", "ve/ctors?"
    connect(
        "ragworks_postgres",
        conn_type="postgres",
        host="db.example",
        login=login,
        password=password,
        schema=schema,
        extra={"sslmode": "verify-full", "sslrootcert": "/certs/a b&c.pem", "cursor": "dictcursor", "keepalives_idle": 30},
    )
    parts = conninfo_to_dict(settings_from_airflow().database_url or "")
    assert parts == {
        "user": login,
        "password": password,
        "host": "db.example",
        "dbname": schema,
        "sslmode": "verify-full",
        "sslrootcert": "/certs/a b&c.pem",
        "keepalives_idle": "30",
    }


@pytest.mark.parametrize(("host", "expected"), [("::1", "::1"), ("/var/run/postgresql", "/var/run/postgresql"), ("a,b", "a,b")])
def test_addresses_that_are_no_names(connect: Any, host: str, expected: str) -> None:
    connect("ragworks_postgres", conn_type="postgres", host=host, schema="db")
    assert conninfo_to_dict(settings_from_airflow().database_url or "")["host"] == expected


def test_a_real_server_accepts_it(connect: Any, database_url: str) -> None:
    parts = conninfo_to_dict(database_url)
    connect(
        "ragworks_postgres",
        conn_type="postgres",
        host=parts["host"],
        port=int(parts["port"]),
        login=parts["user"],
        password=parts["password"],
        schema=parts["dbname"],
        extra={"connect_timeout": 5, "sslmode": "prefer"},
    )
    with psycopg.connect(settings_from_airflow().database_url or "") as connection:
        assert connection.execute("select current_database()").fetchone() == (parts["dbname"],)


def test_another_database_is_refused(connect: Any) -> None:
    connect("ragworks_postgres", conn_type="mysql", host="db")
    with pytest.raises(BadConfiguration, match="its type is 'mysql'"):
        settings_from_airflow()


def test_an_extra_that_is_no_object_is_refused(connect: Any) -> None:
    connect("ragworks_postgres", conn_type="postgres", host="db", extra="sslmode=require")
    with pytest.raises(BadConfiguration, match="not a JSON object"):
        settings_from_airflow()


def test_an_aws_connection_for_s3fs(connect: Any) -> None:
    connect(
        "lake",
        conn_type="aws",
        login="AKIA",
        password="s/e+cret",
        extra={"endpoint_url": "http://minio:9000", "region_name": "eu-west-1", "aws_session_token": "t"},
    )
    assert storage_options("lake") == {
        "key": "AKIA",
        "secret": "s/e+cret",
        "token": "t",
        "endpoint_url": "http://minio:9000",
        "client_kwargs": {"region_name": "eu-west-1"},
    }


def test_a_login_for_sftp(connect: Any) -> None:
    connect(
        "files", conn_type="sftp", host="files.example", port=2222, login="me", password="pw", extra={"look_for_keys": False}
    )
    assert storage_options("files") == {
        "host": "files.example",
        "port": 2222,
        "username": "me",
        "password": "pw",
        "look_for_keys": False,
    }


def test_the_extra_is_what_other_file_systems_get(connect: Any) -> None:
    connect("bucket", conn_type="google_cloud_platform", extra={"token": "anon", "project": "p"})
    assert storage_options("bucket") == {"token": "anon", "project": "p"}


def test_an_unknown_connection_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(BadConfiguration, match=r"source\.conn_id nowhere.*no such connection"):
        storage_options("nowhere")


def test_a_database_of_rows(connect: Any, database_url: str) -> None:
    parts = conninfo_to_dict(database_url)
    connect(
        "shop",
        conn_type="postgres",
        host=parts["host"],
        port=int(parts["port"]),
        login=parts["user"],
        password=parts["password"],
        schema=parts["dbname"],
        extra={"application_name": "rag works", "cursor": "dictcursor"},
    )
    assert sql_url("shop").startswith("postgresql+psycopg://")
    assert sql_url("shop").endswith("?application_name=rag+works")
    query = "select 1 as id, current_setting('application_name') as text, timestamp '2026-01-01' as updated_at"
    wanted = Collection.model_validate({"name": "a", "source": {"type": "sql", "query": query, "conn_id": "shop"}})
    assert source_options(wanted.source) == {"url": sql_url("shop")}
    source = open_source(wanted, storage_options=source_options(wanted.source))
    (row,) = source.listing()
    assert [document.text for document in source.read(row)] == ["rag works"]


def test_options_by_the_type_of_the_source(connect: Any) -> None:
    connect("lake", conn_type="aws", login="k", password="s")
    settings = {"name": "a", "source": {"type": "jsonl", "path": "s3://lake/rows", "conn_id": "lake"}}
    assert source_options(Collection.model_validate(settings).source) == {"key": "k", "secret": "s"}
    del settings["source"]["conn_id"]  # type: ignore[attr-defined]
    assert source_options(Collection.model_validate(settings).source) is None
