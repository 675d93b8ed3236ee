"""One connection, read by Airflow and by the command line, says the same."""

from __future__ import annotations

import json
from typing import Any

import pytest
from airflow.sdk import Connection
from sqlalchemy import make_url

from include.errors import BadConfiguration
from include.sources.credentials import ConnectionFields, parse_connection, sql_url, storage_options

URIS = [
    "postgres://me:p%40ss%2F%3A@db.example:6543/shop?sslmode=require",
    "postgresql://db.example/shop",
    "aws://AKIA:s%2Fe%2Bcret@/?region_name=eu-west-1&endpoint_url=http%3A%2F%2Fminio%3A9000",
    "google-cloud-platform://?__extra__=%7B%22token%22%3A+%22anon%22%7D",
    "sqlite://%2Fvar%2Fdata%2Fshop.db",
    "sqlite:////var/data/shop.db",
    "http://https://me:pw@store.example:8443/docs",
    "mysql://me@[::1]:3306/shop",
]


def _as_airflow(conn_id: str, connection: Connection) -> ConnectionFields:
    return ConnectionFields(
        conn_id,
        connection.conn_type or "",
        connection.host or "",
        connection.port,
        connection.login or "",
        connection.password or "",
        connection.schema or "",
        connection.extra_dejson,
    )


@pytest.mark.parametrize("uri", URIS)
def test_a_uri_is_read_as_airflow_reads_it(uri: str) -> None:
    assert parse_connection("c", uri) == _as_airflow("c", Connection.from_uri(uri, conn_id="c"))


@pytest.mark.parametrize(
    "values",
    [
        {"conn_type": "postgresql", "host": "h", "port": "5432", "login": "me", "password": "p:/?#[]@%&ä", "schema": "s"},
        {"conn_type": "aws", "login": "k", "extra": {"endpoint_url": "http://h:1", "config_kwargs": {"retries": {}}}},
        {"conn_type": "aws", "extra": '{"region_name": "eu"}'},
        {"conn_type": "google-cloud-platform"},
    ],
)
def test_json_is_read_as_airflow_reads_it(values: dict[str, Any]) -> None:
    text = json.dumps(values)
    assert parse_connection("c", text) == _as_airflow("c", Connection.from_json(text, conn_id="c"))


@pytest.mark.parametrize(
    "text", ["my-secret", '{"conn_type": "aws", "my-secret', '{"extra": "my-secret"}', "pg://h:my-secret/x"]
)
def test_what_is_neither_is_refused_without_being_shown(text: str) -> None:
    with pytest.raises(BadConfiguration, match="neither a URI nor a JSON object") as caught:
        parse_connection("c", text)
    assert "my-secret" not in str(caught.value)
    assert caught.value.__cause__ is None


def test_every_part_survives_the_url() -> None:
    password = "p:/?#[]@%&ä'\""
    fields = ConnectionFields("c", "postgres", "db", 5, "us er@corp", password, "sh/op?", {"sslmode": "require", "cursor": "x"})
    url = make_url(sql_url(fields))
    assert (url.drivername, url.username, url.password, url.host, url.port, url.database) == (
        "postgresql+psycopg",
        "us er@corp",
        password,
        "db",
        5,
        "sh/op?",
    )
    assert dict(url.query) == {"sslmode": "require"}
    assert password not in repr(fields)


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        (ConnectionFields("c", "mysql", "h", schema="s"), "mysql+pymysql://h/s"),
        (ConnectionFields("c", "mysql", "h", extra={"sqlalchemy_scheme": "mysql+mysqldb"}), "mysql+mysqldb://h"),
        (ConnectionFields("c", "trino", "h", 8, "me", extra={"sqlalchemy_query": {"a": "b"}}), "trino://me@h:8?a=b"),
        (ConnectionFields("c", "sqlite", "/var/shop.db"), "sqlite:////var/shop.db"),
        (ConnectionFields("c", "sqlite", schema="shop.db"), "sqlite:///shop.db"),
        (ConnectionFields("c", "postgres", "/run/pg", schema="s"), "postgresql+psycopg:///s?host=%2Frun%2Fpg"),
    ],
)
def test_addresses_of_databases(fields: ConnectionFields, expected: str) -> None:
    assert sql_url(fields) == expected
    assert make_url(expected).render_as_string(hide_password=False) == expected


def test_a_connection_without_a_type_is_none_to_a_database() -> None:
    with pytest.raises(BadConfiguration, match="it has no type"):
        sql_url(ConnectionFields("c", host="h"))


def test_options_of_a_bucket() -> None:
    fields = parse_connection("c", URIS[2])
    assert storage_options(fields) == {
        "key": "AKIA",
        "secret": "s/e+cret",
        "endpoint_url": "http://minio:9000",
        "client_kwargs": {"region_name": "eu-west-1"},
    }
