"""The embedded server's data folder: made whole or not at all, and refused with a reason when it cannot be used."""

from __future__ import annotations

import os
import secrets
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from include.errors import BadConfiguration, RagworksError, ServiceUnavailable
from include.store.embedded_binaries import explain, run

if TYPE_CHECKING:
    from include.store.embedded_binaries import Account

USER = "ragworks"
DATABASES = ("ragworks", "airflow")
VERSION = "18"


def create_data(folder: Path, account: Account, server_lock: int) -> None:
    """Make the data folder beside its place and move it there whole, so that a half-made one never counts.

    :param server_lock: locked descriptor that the programs inherit: they may outlive a killed caller.
    """
    for leftover in folder.glob("new-*"):
        shutil.rmtree(leftover)
    staging = Path(tempfile.mkdtemp(prefix="new-", dir=folder))
    try:
        password = folder / "password"
        if not password.exists():
            write_file(password, secrets.token_urlsafe(24) + "\n", 0o600)
        given = give(write_file(staging / "password", password.read_text(), 0o600), account)
        give(staging, account)
        data = staging / "data"
        made = run(
            "initdb", "-D", data, "-U", USER, f"--pwfile={given}", "--auth=scram-sha-256", "--encoding=UTF8",
            "--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--locale=C", "--no-instructions",
            account=account, keep_open=(server_lock,),
        )  # fmt: skip
        if made.returncode != 0:
            raise failure(folder, explain(made))
        for database, statements in (
            ("template1", [f"CREATE DATABASE {name};\n" for name in DATABASES]),
            ("ragworks", ["CREATE EXTENSION vector;\n"]),
        ):
            # Without a server: this needs neither password nor port.
            made = run(
                "postgres", "--single", "-D", data, "-c", "exit_on_error=true", database,
                account=account, stdin="".join(statements), keep_open=(server_lock,),
            )  # fmt: skip
            if made.returncode != 0:
                raise failure(folder, explain(made))
        data.rename(folder / "data")
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def check_data(folder: Path) -> None:
    """Refuse what this Postgres cannot serve.

    :raises BadConfiguration: with what to do about it.
    """
    version = folder / "data" / "PG_VERSION"
    fresh = f"Restore the folder, or move {folder} away to begin with an empty database"
    found = version.read_text().strip() if version.exists() else None
    if found is None:
        raise BadConfiguration(f"{folder / 'data'}", "not a Postgres data folder (no PG_VERSION)", fresh)
    if found != VERSION:
        raise BadConfiguration(f"{folder / 'data'}", f"made by Postgres {found}, this is Postgres {VERSION}", fresh)
    if not (folder / "password").exists():
        raise BadConfiguration(f"{folder / 'password'}", "the file is missing", fresh)


def failure(folder: Path, reason: str) -> RagworksError:
    """The error for a server or initdb that gave up for ``reason``."""
    what = f"embedded Postgres in {folder} does not start"
    if "No space left on device" in reason:
        return ServiceUnavailable(what, reason, f"Free disk space on the volume of {folder}")
    return ServiceUnavailable(what, reason, f"See {folder / 'log'}; to begin with an empty database move {folder} away")


def write_file(path: Path, text: str, mode: int) -> Path:
    """Replace a file in one step, never readable by others before its mode is set."""
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
        Path(name).chmod(mode)
        Path(name).replace(path)
    except OSError:
        Path(name).unlink(missing_ok=True)
        raise
    return path


def give(path: Path, account: Account) -> Path:
    """Hand a file to the account that the server runs under."""
    if account.switch:
        os.chown(path, account.uid, account.gid)
    return path
