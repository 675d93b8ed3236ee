"""Astro's ``airflow_settings.yaml`` outside the Astro CLI: the same file, checked and turned into Airflow's terms."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from include.errors import BadConfiguration

if TYPE_CHECKING:
    from pathlib import Path

DATABASE_CONNECTION = "ragworks_postgres"


class _Entry(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", coerce_numbers_to_str=True)


class ConnectionEntry(_Entry):
    """A connection as the Astro CLI writes it; ``conn_uri`` counts only when the single fields are empty, as there."""

    conn_id: str = Field(min_length=1)
    conn_type: str | None = None
    conn_host: str | None = None
    conn_schema: str | None = None
    conn_login: str | None = None
    conn_password: str | None = Field(default=None, repr=False)
    conn_port: int | None = None
    conn_uri: str | None = Field(default=None, repr=False)
    conn_extra: dict[str, Any] | str | None = Field(default=None, repr=False)

    def arguments(self) -> dict[str, Any]:
        """Keyword arguments of Airflow's ``Connection``; ``extra`` is JSON text whichever way it was written."""
        extra = json.dumps(self.conn_extra) if isinstance(self.conn_extra, dict) else self.conn_extra or None
        fields = {
            "conn_type": self.conn_type, "host": self.conn_host, "schema": self.conn_schema,
            "login": self.conn_login, "password": self.conn_password, "port": self.conn_port or None,
        }  # fmt: skip
        given = {key: value for key, value in fields.items() if value not in (None, "")}
        if given or not self.conn_uri:
            return {"conn_id": self.conn_id, **given, "extra": extra}
        return {"conn_id": self.conn_id, "uri": self.conn_uri, **({"extra": extra} if extra else {})}


class PoolEntry(_Entry):
    """A pool; ``pool_include_deferred`` is ours, the Astro CLI passes over it."""

    pool_name: str = Field(min_length=1)
    pool_slot: int = Field(ge=-1)
    pool_description: str = ""
    pool_include_deferred: bool = False


class VariableEntry(_Entry):
    """A variable."""

    variable_name: str = Field(min_length=1)
    variable_value: str = Field(repr=False)


class AirflowSettings(_Entry):
    """What the file says."""

    connections: tuple[ConnectionEntry, ...] = ()
    pools: tuple[PoolEntry, ...] = ()
    variables: tuple[VariableEntry, ...] = ()


def read_airflow_settings(path: Path) -> AirflowSettings:
    """Parse the file; entries without a name, as ``astro dev init`` leaves them, are passed over as the Astro CLI does.

    :raises BadConfiguration: with file, key and what is wrong; never with a value, which may be a password.
    """
    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise BadConfiguration(str(path), f"not readable ({error})", "Restore it from the repository") from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"not YAML near line {mark.line + 1}" if mark else "not YAML"
        raise BadConfiguration(str(path), where, "Fix the file") from error
    body = (raw or {}).get("airflow") if isinstance(raw or {}, dict) else None
    if not isinstance(body, dict):
        raise BadConfiguration(str(path), "it has no section 'airflow'", "Start it with 'airflow:'")
    names = {"connections": "conn_id", "pools": "pool_name", "variables": "variable_name"}
    named = {section: _named(entries, names.get(section)) for section, entries in body.items()}
    try:
        return AirflowSettings.model_validate(named)
    except ValidationError as error:
        problems = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors(include_input=False))
        raise BadConfiguration(str(path), problems, "Fix the file") from None


def with_database(found: AirflowSettings, url: str) -> AirflowSettings:
    """The same settings with the connection ``ragworks_postgres`` at ``url`` instead of Astro's development address."""
    others = tuple(c for c in found.connections if c.conn_id != DATABASE_CONNECTION)
    return found.model_copy(update={"connections": (*others, connection_from_url(DATABASE_CONNECTION, url))})


def connection_from_url(conn_id: str, url: str) -> ConnectionEntry:
    """A Postgres connection from any address libpq takes; what is not host, user … (sslmode) goes to the extra.

    :raises BadConfiguration: libpq refuses it.
    """
    import psycopg
    from psycopg.conninfo import conninfo_to_dict

    try:
        parts = {key: str(value) for key, value in conninfo_to_dict(url).items() if value is not None}
    except psycopg.ProgrammingError:
        fix = "Use postgresql://user:password@host:5432/database"
        raise BadConfiguration("RAGWORKS_DATABASE_URL", "not a Postgres address", fix) from None
    port = parts.pop("port", "")
    return ConnectionEntry(
        conn_id=conn_id,
        conn_type="postgres",
        conn_host=parts.pop("host", None),
        conn_schema=parts.pop("dbname", None),
        conn_login=parts.pop("user", None),
        conn_password=parts.pop("password", None),
        conn_port=int(port) if port.isdigit() else None,
        conn_extra=parts or None,
    )


def _named(entries: object, key: str | None) -> object:
    if key is None or not isinstance(entries, list):
        return entries or ()
    return [_without_nulls(e) for e in entries if not isinstance(e, dict) or e.get(key) not in (None, "")]


def _without_nulls(entry: object) -> object:
    return {k: v for k, v in entry.items() if v is not None} if isinstance(entry, dict) else entry
