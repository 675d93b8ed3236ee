"""A Postgres with pgvector that needs no installation: a wheel's binaries, a data folder under ``home``, loopback only.

Who holds ``server.lock`` tells whether a server lives: the postmaster and all its children inherit the locked file, so
the answer is right after a `kill -9`, with zombies and with reused process ids, where ``postmaster.pid`` lies.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import socket
import struct
import time
from typing import TYPE_CHECKING
from urllib.parse import quote

from include.errors import BadConfiguration, ServiceUnavailable
from include.store.embedded_binaries import Account, account_for, explain, last_reason, run
from include.store.embedded_data import DATABASES, USER, check_data, create_data, failure, give, write_file
from include.store.embedded_settings import SETTINGS_FILE, server_settings

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["DATABASES", "ensure_running", "held", "port_is_free", "running", "stop", "url"]

logger = logging.getLogger(__name__)

LOCK_SECONDS = 180.0  # longer than a start with crash recovery
ORPHAN_SECONDS = 3.0


def ensure_running(home: Path) -> str:
    """Start the server unless it runs, and return the URL of its database ``ragworks``.

    It outlives the caller; any number of processes may call at once. About 1 s the first time, 0.1 s later.

    :param home: folder of the embedded stack; ``home/postgres`` is created in it.
    :raises ServiceUnavailable: it does not start.
    :raises BadConfiguration: the folder cannot be used.
    """
    home = home.absolute()
    if not running(home):
        with _understandable(home):
            folder = _folder(home)
            with _locked(folder / "start.lock"):
                if not running(home):
                    _start(folder)
    return url(home)


def stop(home: Path) -> bool:
    """Stop the server, ending its sessions; False when none was running."""
    folder = home.absolute() / "postgres"
    if not (folder / "data").is_dir():
        return False
    with _understandable(home), _locked(folder / "start.lock"):
        if _lock_if_free(folder / "server.lock", keep=False) is not None:
            return False
        account = account_for(folder / "data")
        for mode in ("fast", "immediate"):  # immediate loses nothing: the next start replays the log
            stopped = run("pg_ctl", "stop", "-D", folder / "data", "-m", mode, "-w", "-t", "30", account=account)
            if stopped.returncode == 0:
                break
        os.close(_wait_for_orphans(folder))
        return True


def running(home: Path) -> bool:
    """Whether the server of ``home`` lives and takes connections."""
    folder = home.absolute() / "postgres"
    with _understandable(home):
        try:
            lines = (folder / "data" / "postmaster.pid").read_text().splitlines()
            port = int((folder / "port").read_text())
        except (FileNotFoundError, NotADirectoryError, ValueError):
            return False
        ready = len(lines) > 7 and lines[7].strip() == "ready"
        return ready and _lock_if_free(folder / "server.lock", keep=False) is None and _answers(port)


def url(home: Path, database: str = "ragworks") -> str:
    """The address of one of ``DATABASES``, password included.

    :raises ServiceUnavailable: the server was never started.
    """
    folder = home.absolute() / "postgres"
    with _understandable(home):
        try:
            password, port = (folder / "password").read_text().strip(), (folder / "port").read_text().strip()
        except FileNotFoundError as error:
            raise ServiceUnavailable(
                f"embedded Postgres in {folder}", "it was never started", "Start it with: python -m include up"
            ) from error
        return f"postgresql://{USER}:{quote(password, safe='')}@127.0.0.1:{port}/{quote(database, safe='')}"


def _folder(home: Path) -> Path:
    folder = home / "postgres"
    if not folder.is_dir():
        folder.mkdir(parents=True, exist_ok=True)
        folder.chmod(0o755)  # the server's own account must get through; what is secret in it has its own mode
    return folder


def _start(folder: Path) -> None:
    """Bring the server up; the caller holds start.lock."""
    server_lock = _wait_for_orphans(folder)
    try:
        data = folder / "data"
        account = account_for(data)
        if not data.exists():
            create_data(folder, account, server_lock)
        check_data(folder)
        (data / "postmaster.pid").unlink(missing_ok=True)  # its process is gone; a reused id would stop Postgres
        started = time.monotonic()
        for attempt in (1, 2, 3):
            port = _port(folder, fresh=attempt > 1)
            if _start_on(folder, port, account, server_lock):
                logger.info("embedded Postgres runs on 127.0.0.1:%s, %.1f s", port, time.monotonic() - started)
                return
        raise ServiceUnavailable(f"embedded Postgres in {folder}", "three free ports were taken at once", "Try again")
    finally:
        os.close(server_lock)


def _start_on(folder: Path, port: int, account: Account, server_lock: int) -> bool:
    """True when it runs, False when another program took the port first."""
    data, log = folder / "data", folder / "log"
    give(write_file(data / SETTINGS_FILE, server_settings(port, log), 0o600), account)
    log.mkdir(exist_ok=True)
    log.chmod(0o700)
    give(log, account)
    startup = log / "startup.log"
    startup.unlink(missing_ok=True)
    done = run(
        "pg_ctl", "start", "-D", data, "-l", startup, "-w", "-t", "120", account=account, keep_open=(server_lock,)
    )  # fmt: skip
    if done.returncode == 0:
        return True
    reason = last_reason(log) or explain(done)
    if "could not create any TCP/IP sockets" in reason or "Address already in use" in reason:
        return False
    raise failure(folder, reason)


def _port(folder: Path, *, fresh: bool) -> int:
    """The port of last time while it is free, so that a saved address keeps working."""
    kept = folder / "port"
    if not fresh and kept.exists() and kept.read_text().strip().isdigit():
        port = int(kept.read_text())
        if port_is_free(port):
            return port
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    write_file(kept, f"{port}\n", 0o644)
    return port


def port_is_free(port: int) -> bool:
    """Whether a server may listen on 127.0.0.1 at this port."""
    with contextlib.suppress(OSError):  # on macOS one can bind beside a listener on all addresses, and take its place
        socket.create_connection(("127.0.0.1", port), timeout=2).close()
        return False
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as Postgres does: TIME_WAIT is not "taken"
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def _answers(port: int) -> bool:
    """Whether a postmaster replies; a dying or stopped one still accepts connections for a moment."""
    ssl_request = struct.pack("!ii", 8, 80877103)  # the protocol's SSLRequest: one letter comes back, nothing is logged
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=2) as connection:
            connection.sendall(ssl_request)
            return connection.recv(1) in (b"N", b"S")
    except OSError:
        return False


def _wait_for_orphans(folder: Path) -> int:
    """The locked server.lock, once no process of an earlier server is left; the caller closes it.

    Backends of a killed postmaster end by themselves unless they compute; those are killed, the log replays their work.
    """
    began = time.monotonic()
    while (held := _lock_if_free(folder / "server.lock", keep=True)) is None:
        if time.monotonic() - began > ORPHAN_SECONDS + 15:
            raise ServiceUnavailable(f"embedded Postgres in {folder}", "an earlier server does not end", "Try again")
        if time.monotonic() - began > ORPHAN_SECONDS:
            _kill_orphans(folder / "data")
        time.sleep(0.05)
    return held


def _kill_orphans(data: Path) -> None:
    import psutil

    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if process.name().startswith("postgres") and process.cwd() == str(data.resolve()):
                logger.warning("killing process %s, left by a Postgres that was killed", process.pid)
                process.kill()


def _lock_if_free(path: Path, *, keep: bool) -> int | None:
    """Take the lock if nobody has it and return its descriptor, else None; without ``keep`` only look (-1: free)."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, (fcntl.LOCK_EX if keep else fcntl.LOCK_SH) | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    if keep:
        return descriptor
    os.close(descriptor)
    return -1


@contextlib.contextmanager
def held(home: Path, name: str) -> Iterator[None]:
    """Hold the lock ``home/run/NAME`` against other processes; the kernel releases it when this one ends.

    :raises ServiceUnavailable: another process keeps it too long.
    """
    with _understandable(home):
        folder = home.absolute() / "run"
        folder.mkdir(parents=True, exist_ok=True)
        with _locked(folder / name):
            yield


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    began = time.monotonic()
    while (held := _lock_if_free(path, keep=True)) is None:
        if time.monotonic() - began > LOCK_SECONDS:
            raise ServiceUnavailable(str(path), f"another process has held it for {LOCK_SECONDS:.0f} s", "Try again")
        time.sleep(0.05)
    try:
        yield
    finally:
        os.close(held)


@contextlib.contextmanager
def _understandable(home: Path) -> Iterator[None]:
    """Turn what the file system refuses into what a person can do."""
    try:
        yield
    except PermissionError as error:
        fix = "Use the account that started it first, or set RAGWORKS_HOME to a folder of your own"
        raise BadConfiguration(str(error.filename or home), "no permission", fix) from error
    except OSError as error:
        fix = f"Check disk space and permissions of {home}, or set RAGWORKS_HOME to another folder"
        raise ServiceUnavailable(str(error.filename or home), error.strerror or str(error), fix) from error
