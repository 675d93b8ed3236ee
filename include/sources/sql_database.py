"""The database that a sql source reads: opened to read only, and whatever it raises becomes one clear line."""

from __future__ import annotations

import re
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy import create_engine, exc, make_url
from sqlalchemy.pool import NullPool

import include.config
from include.errors import BadConfiguration, RagworksError, ServiceUnavailable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy import URL, Connection, Engine

_REWRITTEN = {"postgres": "postgresql+psycopg", "postgresql": "postgresql+psycopg", "mysql": "mysql+pymysql"}
_PACKAGES = {"MySQLdb": "mysqlclient", "cx_Oracle": "oracledb", "snowflake": "snowflake-sqlalchemy"}  # others by their own name
_CONNECT_SECONDS = 10
_SQLITE_ERROR, _SQLITE_READONLY = 1, 8  # the statement is wrong; others are of the file or of the moment
_TRANSIENT_STATES = ("08", "40", "53", "55", "57", "58", "XX")  # classes of SQLSTATE: connection, conflict, resources, …
_MYSQL_REFUSALS = {1044, 1045, 1049, 1054, 1142, 1143}  # no access, no such database or column: MySQL calls them operational
# What a message puts in quotes is a name, or a part of the query, in these classes; of others it may be what a row holds.
_NAMING_STATES = ("08", "0A", "25", "28", "3D", "3F", "40", "42", "53", "55", "57", "58")
_RAISED = "P0"  # by a function of theirs, in words of its own
_MYSQL_NAMING = {1064, 1146, 1205, 1213, 1305, 1698, *_MYSQL_REFUSALS, *range(2000, 3000)}  # those from 2000 are the client's
_QUOTED = re.compile(r"[\"'`«»„“”‘’].*[\"'`«»„“”‘’]", re.DOTALL)  # to the last quote: a value may hold one itself
_DIGITS = re.compile(r"\d{6,}")
_REFUSED = re.compile(r"authentication failed|access denied|no password supplied|(database|role|user) .*does not exist", re.I)


class Database:
    """Where the rows are.

    :param url: SQLAlchemy's; ``postgresql://`` means psycopg, ``mysql://`` PyMySQL.
    :param shown: what to call it in messages: the setting that named it.
    :raises BadConfiguration: not a URL, an unknown dialect, a driver that is not installed, a SQLite file that is not there.
    """

    def __init__(self, url: str, shown: str) -> None:
        self._shown = shown
        self.url = self._parsed(url)
        self.place = f"{self.url.get_backend_name()}://{self.url.host or ''}:{self.url.port or ''}/{self.url.database or ''}"
        self._engine = self._open()

    def quote(self, name: str) -> str:
        """A column's name as this database's SQL writes it."""
        return self._engine.dialect.identifier_preparer.quote(name)

    @property
    def loosely_typed(self) -> bool:
        """Whether 1 and '1' are different values of one column."""
        return self.url.get_backend_name() == "sqlite"

    @contextmanager
    def connect(self) -> Iterator[Connection]:
        """A transaction that reads, read only where the database can be told so (Postgres, MySQL, SQLite).

        :raises ServiceUnavailable: it does not answer, or stops answering.
        :raises BadConfiguration: it refuses the login or the statement.
        """
        with self.translated(), self._engine.connect() as connection:
            self._read_only(connection)
            yield connection

    @contextmanager
    def translated(self) -> Iterator[None]:
        """What the database raises, as errors of ours."""
        try:
            yield
        except exc.DBAPIError as error:
            raise self._refusal(error) from error
        except exc.SQLAlchemyError as error:
            said = self._said(error, values=False)
            raise BadConfiguration(self._shown, said, "Correct the query or the connection") from error

    def _parsed(self, text: str) -> URL:
        try:
            url = make_url(text)
        except (exc.ArgumentError, ValueError):
            fix = "Write for example postgresql://user@host:5432/database"
            raise BadConfiguration(self._shown, "it is not a URL of SQLAlchemy", fix) from None
        url = url.set(drivername=_REWRITTEN.get(url.drivername, url.drivername))
        if url.get_backend_name() == "sqlite" and url.database and url.database != ":memory:" and "uri" not in url.query:
            path = include.config.PROJECT_ROOT / Path(url.database).expanduser()
            if not path.is_file():  # SQLite would make an empty one
                raise BadConfiguration(self._shown, f"there is no file {path}", "Correct its path; a relative one starts there")
            url = url.set(database=str(path))
        return url

    def _open(self) -> Engine:
        try:
            return create_engine(self.url, poolclass=NullPool, hide_parameters=True, connect_args=self._arguments())
        except ImportError as error:
            module = (error.name or self.url.get_driver_name()).partition(".")[0]
            fix = f"pip install {_PACKAGES.get(module, module)}"
            raise BadConfiguration(self._shown, f"its driver {module} is not installed", fix) from error
        except exc.NoSuchModuleError as error:
            fix = "Correct the name, or install the package that brings this dialect"
            raise BadConfiguration(self._shown, f"SQLAlchemy has no dialect {self.url.drivername!r}", fix) from error
        except (exc.ArgumentError, TypeError, ValueError) as error:
            raise BadConfiguration(self._shown, self._said(error), "Correct the parameters of the URL") from error

    def _arguments(self) -> dict[str, Any]:
        if self.url.drivername != "postgresql+psycopg":
            return {}
        waiting = {} if "connect_timeout" in self.url.query else {"connect_timeout": _CONNECT_SECONDS}
        return {"prepare_threshold": None, **waiting}  # a pooler such as pgbouncer loses prepared statements

    def _read_only(self, connection: Connection) -> None:
        name = self.url.get_backend_name()
        if name == "postgresql":
            connection.exec_driver_sql("set transaction read only")
        elif name in ("mysql", "mariadb"):
            connection.exec_driver_sql("set session transaction read only")
            connection.rollback()  # it is of the transactions to come
        elif name == "sqlite":
            connection.exec_driver_sql("pragma query_only = on")
            driver: Any = connection.connection.driver_connection
            driver.text_factory = _sqlite_text

    def _refusal(self, error: exc.DBAPIError) -> RagworksError:
        named, state = _quotes_names(error), _state(error.orig)
        said, fix = self._said(error.orig or error, values=named), "Correct the query, its columns or the connection"
        if not named:
            said = state if state.startswith(_RAISED) else f"{state} {said}".strip()
            fix = "Values are not shown here, they may be personal: run the query in the database; cast only what can be cast"
        if not error.connection_invalidated and _is_wrong(error, said):
            return BadConfiguration(self._shown, f"the database says: {said}", fix)
        return ServiceUnavailable(f"{self._shown}: the database does not answer", said, "Check it and try again")

    def _said(self, error: BaseException, *, values: bool = True) -> str:
        """One line, without the password that some drivers repeat; without values, what is quoted goes too."""
        diagnosis = getattr(getattr(error, "diag", None), "message_primary", None)
        if not diagnosis and len(error.args) > 1 and isinstance(error.args[0], int):
            diagnosis = error.args[1]  # MySQL's: (1054, "Unknown column …")
        text = " ".join(str(diagnosis or error).split())
        for secret in filter(None, (self.url.password, *self.url.query.values())):
            if isinstance(secret, str) and len(secret) > 3:
                text = text.replace(secret, "…")
        if not values:
            text = _DIGITS.sub("…", _QUOTED.sub("…", text))
        return text if len(text) <= 300 else f"{text[:299]}…"


def _is_wrong(error: exc.DBAPIError, said: str) -> bool:
    """Whether trying again changes nothing: the statement, a column, the login."""
    original = error.orig
    if (code := getattr(original, "sqlite_errorcode", None)) is not None:
        return code in (_SQLITE_ERROR, _SQLITE_READONLY) or not isinstance(error, exc.OperationalError)
    if state := _state(original):
        return not state.startswith(_TRANSIENT_STATES)
    if isinstance(error, exc.OperationalError | exc.InterfaceError):
        first = original.args[0] if original is not None and original.args else None
        return first in _MYSQL_REFUSALS or _REFUSED.search(said) is not None
    return True


def _state(original: BaseException | None) -> str:
    """The SQLSTATE, of drivers that tell it."""
    return str(getattr(original, "sqlstate", None) or getattr(original, "pgcode", None) or "")


def _quotes_names(error: exc.DBAPIError) -> bool:
    """Whether what the message quotes helps to correct the query, and is nothing that a row holds."""
    original = error.orig
    if getattr(original, "sqlite_errorcode", None) is not None:
        return True  # SQLite casts whatever it is given, and quotes no value
    if state := _state(original):
        return state.startswith(_NAMING_STATES)
    first = original.args[0] if original is not None and original.args else None
    if isinstance(first, int):
        return first in _MYSQL_NAMING
    return isinstance(error, exc.OperationalError)  # psycopg's, when nothing was asked yet


def _sqlite_text(raw: bytes) -> str:
    """Bytes that are not UTF-8 become characters that cannot be stored, so that one row is refused and not the query."""
    return raw.decode("utf-8", "surrogateescape")
