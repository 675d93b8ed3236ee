"""What is left of a document: in every row of every table of the schema, and in the files of its relations."""

from __future__ import annotations

from typing import TYPE_CHECKING

from psycopg import sql

from include.store.pool import open_pool

if TYPE_CHECKING:
    from collections.abc import Sequence

    from include.config import Settings


def in_rows(settings: Settings, needles: Sequence[str]) -> set[tuple[str, str]]:
    """(table, needle) wherever any column of any row holds one, whatever its type."""
    with open_pool(settings) as pool, pool.connection() as connection:
        tables = connection.execute("select tablename from pg_tables where schemaname = 'ragworks'").fetchall()
        return {
            (table, needle)
            for (table,) in tables
            for needle in needles
            if connection.execute(
                sql.SQL("select from {} t where strpos(t::text, %s) > 0 limit 1").format(sql.Identifier("ragworks", table)),
                (needle,),
            ).rowcount
        }


def in_files(settings: Settings, needles: Sequence[str]) -> set[tuple[str, str]]:
    """(table, needle) wherever the file of a table, of its overflow or of one of its indexes holds one."""
    with open_pool(settings) as pool, pool.connection() as connection:
        connection.execute("checkpoint")
        relations = connection.execute(
            "with tables as (select oid, relname, reltoastrelid from pg_class where relkind = 'r'"
            "  and relnamespace = 'ragworks'::regnamespace), parts as ("
            "  select relname, oid from tables union all select relname, reltoastrelid from tables where reltoastrelid <> 0)"
            " select relname, oid from parts union all"
            " select p.relname, i.indexrelid from parts p join pg_index i on i.indrelid = p.oid"
        ).fetchall()
        found = set()
        for table, relation in relations:
            row = connection.execute("select pg_read_binary_file(pg_relation_filepath(%s))", (relation,)).fetchone()
            content = bytes(row[0]) if row else b""
            found |= {(table, needle) for needle in needles if needle.encode() in content}
        return found
