"""Which documents a query may see: its filters on metadata, and the principals it is asked for, as SQL.

A document with an ACL is seen by who has one of its principals; an empty ACL is seen by nobody, none by everybody.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any, Final

from psycopg import sql
from psycopg.types.json import Jsonb

from include.errors import BadConfiguration

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from psycopg.sql import Composable

    from include.store.generations import Generation
    from include.store.pool import Connection


class AllPrincipals(Enum):
    """For who judges an index as a whole: sees every document, whatever its ACL. Never taken from a request."""

    ALL = "all"


ALL_PRINCIPALS: Final = AllPrincipals.ALL


@dataclass(frozen=True, slots=True)
class Scope:
    """The documents that count.

    :param condition: on a row ``f`` of ragworks.generation_document; None: all of the generation.
    :param values: its parameters.
    :param visible: the part of it that the ACL asks for, on a row ``g``: applied once more where texts are read.
    :param total: chunks of the generation, about.
    """

    condition: Composable | None
    values: Mapping[str, Any]
    visible: Composable
    total: int

    @property
    def joined(self) -> Composable:
        """Joins the documents to chunks ``c``."""
        if self.condition is None:
            return sql.SQL("")
        return sql.SQL(
            " join ragworks.generation_document f on f.generation_id = %(generation)s and f.document_id = c.document_id"
            " and not f.staged"
        )

    @property
    def allowed(self) -> Composable:
        """A further condition, after ``where``."""
        return sql.SQL("") if self.condition is None else sql.SQL(" and {}").format(self.condition)

    @property
    def checked(self) -> Composable:
        """As :attr:`joined` and :attr:`allowed` in one, row by row: the chunks keep their order, and reading ends with a limit.

        A plain join may be turned round by the planner, and the first rows are then any. A subquery with a limit stays one.
        """
        if self.condition is None:
            return sql.SQL("")
        return sql.SQL(
            " cross join lateral (select from ragworks.generation_document f where f.generation_id = %(generation)s"
            " and f.document_id = c.document_id and not f.staged and {} limit 1) f"
        ).format(self.condition)

    @property
    def looked_up(self) -> Composable:
        """As :attr:`allowed`, without :attr:`joined`, for few documents: their chunks are looked up by an index, whatever the
        planner believes of how many they are. It often errs: of access lists and metadata it knows next to nothing.
        """
        if self.condition is None:
            return sql.SQL("")
        return sql.SQL(
            " and c.document_id = any(array(select f.document_id from ragworks.generation_document f"
            " where f.generation_id = %(generation)s and not f.staged and {}))"
        ).format(self.condition)


def open_scope(
    connection: Connection, held: Generation, filters: Mapping[str, Any], principals: Sequence[str] | AllPrincipals
) -> Scope:
    """The scope of a query on a generation.

    :raises BadConfiguration: a filter that is not understood.
    """
    values: dict[str, Any] = {"generation": held.id}
    clauses = [_any_of(key, value if isinstance(value, list) else [value], values) for key, value in filters.items()]
    restricted, total = _overview(connection, held)
    visible: Composable = sql.SQL("true")
    if principals is not ALL_PRINCIPALS:
        values["principals"] = list(principals)
        visible = sql.SQL("(g.acl is null or g.acl && %(principals)s)")
        if restricted:
            clauses.append(sql.SQL("(f.acl is null or f.acl && %(principals)s)"))
    return Scope(sql.SQL(" and ").join(clauses) if clauses else None, values, visible, total)


def matching_chunks(connection: Connection, scope: Scope, *, most: int) -> int:
    """How many chunks the scope holds; counting stops beyond ``most`` documents."""
    if scope.condition is None:
        return scope.total
    statement = sql.SQL(
        "select coalesce(sum(chunks), 0) from (select f.chunks from ragworks.generation_document f"
        " where f.generation_id = %(generation)s and not f.staged and {} limit %(most)s) as found"
    ).format(scope.condition)
    row = connection.execute(statement, {**scope.values, "most": most}).fetchone()
    return int(row[0]) if row else 0


def _overview(connection: Connection, held: Generation) -> tuple[bool, int]:
    """Whether any document of the generation has an ACL (most collections have none, and then nothing is joined), and size."""
    row = connection.execute(
        "select exists (select from ragworks.generation_document where generation_id = %s and acl is not null),"
        " (select reltuples from pg_class where oid = to_regclass(%s))",
        (held.id, f"ragworks.chunks_{held.id}"),
    ).fetchone()
    restricted, total = row or (True, None)
    return bool(restricted), max(int(total or 0), 0)


def _any_of(key: str, alternatives: list[Any], values: dict[str, Any]) -> Composable:
    """The metadata's value is one of these, or a list that holds one; the parameters are added to ``values``."""
    tests: list[Composable] = []
    for single in alternatives:
        if isinstance(single, dict):
            raise BadConfiguration(
                f"filter {key!r}", "nested objects are not understood", 'Use {"key": value} or {"key": [value, value]}'
            )
        for candidate in (single, [single]):
            name = f"filter_{len(values)}"
            values[name] = Jsonb({key: candidate})
            tests.append(sql.SQL("f.metadata @> {}").format(sql.Placeholder(name)))
    return sql.SQL("({})").format(sql.SQL(" or ").join(tests or [sql.SQL("false")]))
