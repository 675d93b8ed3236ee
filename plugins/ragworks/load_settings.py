"""Bring Airflow's database to this version and load ``airflow_settings.yaml`` into it, in one process.

``python -m ragworks.load_settings`` serves any Airflow outside the Astro CLI, which reads that file itself. The
``airflow`` command would take several starts of some seconds each.
"""

from __future__ import annotations

import argparse
import logging
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from include.config import PROJECT_ROOT, Settings
from include.errors import RagworksError
from include.stack.settings_file import read_airflow_settings, with_database
from include.store import embedded

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from include.stack.settings_file import AirflowSettings

logger = logging.getLogger(__name__)


def main(arguments: list[str] | None = None) -> int:
    """Run the command.

    :returns: the exit status.
    """
    parser = argparse.ArgumentParser(prog="python -m ragworks.load_settings", description=__doc__)
    parser.add_argument("file", nargs="?", type=Path, default=PROJECT_ROOT / "airflow_settings.yaml")
    parser.add_argument("--migrate", action="store_true", help="bring the metadata database to this Airflow's version")
    given = parser.parse_args(arguments)
    try:
        wanted = read_airflow_settings(given.file)
        address = _ragworks_address(Settings.from_environment())
        if address:
            wanted = with_database(wanted, address)
    except RagworksError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    if given.migrate:
        from airflow.utils.db import initdb

        initdb()
    load(wanted)
    return 0


def load(wanted: AirflowSettings) -> None:
    """Write every connection, pool and variable, replacing those of the same name."""
    from airflow.models.pool import Pool
    from airflow.models.variable import Variable
    from airflow.utils.session import create_session

    with create_session() as session:
        for connection in wanted.connections:
            _write_connection(connection.arguments(), session)
        for pool in wanted.pools:
            Pool.create_or_update_pool(
                pool.pool_name, pool.pool_slot, pool.pool_description, pool.pool_include_deferred, session=session
            )
        for variable in wanted.variables:
            Variable.set(variable.variable_name, variable.variable_value, session=session)
    logger.info(
        "loaded %s connections, %s pools, %s variables",
        len(wanted.connections), len(wanted.pools), len(wanted.variables),
    )  # fmt: skip


def _write_connection(arguments: dict[str, Any], session: Session) -> None:
    from airflow.models.connection import Connection
    from sqlalchemy import select

    connection = Connection(**arguments)
    known = session.scalar(select(Connection.id).where(Connection.conn_id == arguments["conn_id"]))
    if known is not None:  # the same key, so that the row is replaced
        connection.id = known
    session.merge(connection)


def _ragworks_address(settings: Settings) -> str | None:
    """The database that commands on this machine use; None leaves what the file says."""
    if settings.database_url:
        return settings.database_url
    return embedded.url(settings.home) if embedded.running(settings.home) else None


if __name__ == "__main__":
    sys.exit(main())
