"""Promise 3 under other faults: lost connections, a restarted server, a full disk, deadly documents, many runs at once."""

from __future__ import annotations

import contextlib
import os
import subprocess
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from include.store import embedded
from include.store.work_items import MAX_ATTEMPTS
from tests.conftest import never_wait_for_the_disk
from tests.promises.fault_cases import KILLED, Cases
from tests.promises.fault_servers import Databases
from tests.promises.fault_sources import make_sources
from tests.promises.faults import Fault, fill
from tests.support import query

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.promises.fault_cases import Case
    from tests.promises.fault_servers import Children
    from tests.promises.faults import Job

TRANSIENT = (69, 75)
PORTION = "tests.promises.faults:QuickEmbedder.portion"
MOMENTS = {
    "listing": Fault("midway", "include.sources.files:FilesSource.listing", 9),
    "reading": Fault("after", "include.sources.files:parse", 9),
    "embedding": Fault("before", PORTION, 4),
    "writing": Fault("before", "include.store.work_items:complete", 1),
    "publishing": Fault("after", "include.store.chunk_merge:merge_staged"),
}


def _stumbles(case: Case, fault: Fault, filler: str = "") -> str:
    """Run the command line into a fault; its one line of error."""
    job = case.job(do="cli", fault=fault, filler=filler)
    code = case.children.run(job)[0]
    said = Path(job.log).read_text()
    assert Path(job.marker).read_text() == str(fault), said
    assert code in TRANSIENT, said
    assert "Traceback" not in said
    assert "defect" not in said
    return next(line for line in said.splitlines() if line.startswith("ragworks: "))


@pytest.mark.parametrize("moment", MOMENTS)
def test_connection_dropped(cases: Cases, moment: str) -> None:
    with cases.case("files") as case:
        before = case.state().live
        case.source("new")
        assert "went away" in _stumbles(case, replace(MOMENTS[moment], action="disconnect"))
        assert case.state().live == before
        case.run()
        case.assert_right(cases.rebuilt("files", "new"))


@pytest.fixture
def own_server(children: Children, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Cases, Path]]:
    """A server that a test may do anything to, and its home."""
    home = tmp_path_factory.mktemp("own")
    make_sources(home / "sources")
    url = embedded.ensure_running(home)
    never_wait_for_the_disk(url)
    yield Cases(children, Databases(url), home / "sources", home), home
    embedded.stop(home)


def test_server_restarted(own_server: tuple[Cases, Path]) -> None:
    """While it embeds, and while it publishes: the whole server stops, and comes back."""
    own, home = own_server
    with own.case("files") as case:
        case.source("new")
        for moment in ("embedding", "publishing"):
            job = case.job(do="cli", home=str(home), fault=replace(MOMENTS[moment], action="restart"))
            code = case.children.run(job)[0]
            assert Path(job.marker).exists()
            assert code in TRANSIENT, Path(job.log).read_text()
        case.run()
        case.assert_right(own.rebuilt("files", "new"))


@pytest.fixture
def small_disk(own_server: tuple[Cases, Path]) -> Iterator[tuple[Path, Path]]:
    """A tablespace ``small`` on a disk of its own, and the folder of that disk."""
    own, home = own_server
    disk = Path(tempfile.mkdtemp())  # not below pytest's folder, which is closed to the server's account
    disk.chmod(0o755)
    mount = ["mount", "-t", "tmpfs", "-o", "size=64m,mode=0755", "tmpfs", str(disk)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        pytest.skip("only root may mount a small disk")
    try:
        space = disk / "space"
        space.mkdir()
        owner = (home / "postgres" / "data").stat()
        os.chown(space, owner.st_uid, owner.st_gid)
        own.databases.execute(f"create tablespace small location '{space}'")
        yield disk, disk / "filler"
    finally:
        embedded.stop(home)
        subprocess.run(["umount", str(disk)], check=True)
        disk.rmdir()


@pytest.mark.parametrize("moment", ["reading", "writing", "publishing"])
def test_disk_full(own_server: tuple[Cases, Path], small_disk: tuple[Path, Path], moment: str) -> None:
    """The disk of the database fills up: the run says so, the live index answers, and with space again all is right."""
    own, _ = own_server
    _, filler = small_disk
    faults = {
        "reading": Fault("before", "include.store.documents:save_documents", action="fill"),
        "writing": Fault("before", "include.store.chunks:write_documents", action="fill"),
        "publishing": Fault("before", "include.store.chunk_merge:merge_staged", action="fill"),
    }
    with own.case("files", tablespace="small") as case:
        before = case.state().live
        case.source("new")
        assert "has no disk space left" in _stumbles(case, faults[moment], str(filler))
        fill(filler)
        assert case.state().live == before
        filler.unlink()
        case.run()
        case.assert_right(own.rebuilt("files", "new"))


def _until_it_ends(case: Case, job: Job, code: int = KILLED) -> int:
    """Run until a run ends well; how many did not."""
    for attempt in range(MAX_ATTEMPTS + 3):
        again = replace(job, key=f"try-{attempt}")
        ended = case.children.run(again)[0]
        if ended == 0:
            return attempt
        assert ended == code, Path(job.log).read_text()
    raise AssertionError(f"no run of {MAX_ATTEMPTS + 3} ended: {Path(job.log).read_text()}")


def _without(case: Case, expected: Case, uri: str, expectation: str) -> None:
    """The document is in quarantine, all else as in an index without it."""
    found, right = case.state(), expected.state()
    assert found.live == right.live
    assert [row for row in found.refused if row not in right.refused] == [(uri, "", *expectation.split())]


@pytest.mark.parametrize("way", ["kill", "memory"])
def test_a_document_that_kills_its_embedder(cases: Cases, way: str) -> None:
    """Out of memory, as the kernel says it (SIGKILL) or as Python does (MemoryError): set apart after MAX_ATTEMPTS runs."""
    with cases.case("files", live=False) as case, cases.case("files", live=False) as expected:
        expected.run()
        case.add("deadly.md", "# Deadly\n\nA page that takes all memory: mortiferous.")
        died = _until_it_ends(case, case.job(deadly="mortiferous", deadly_way=way), KILLED if way == "kill" else 70)
        assert died == MAX_ATTEMPTS
        _without(case, expected, "deadly.md", "chunk survives")


def test_a_file_that_kills_its_parser(cases: Cases) -> None:
    with cases.case("files", live=False) as case, cases.case("files", live=False) as expected:
        expected.run()
        case.add("deadly.md", "# Deadly\n\nA page that takes all memory: mortiferous.")
        assert _until_it_ends(case, case.job(deadly_file="mortiferous")) == MAX_ATTEMPTS
        _without(case, expected, "deadly.md", "document readable")


def test_eight_workers(cases: Cases) -> None:
    """Eight share a run; two are killed, in the middle of a batch and after writing one."""
    with cases.case("files") as case:
        case.source("new", 40)
        case.run(do="plan", key="shared")
        shards = [case.job(do="shard", key="shared", slow=0.02, batch=2) for _ in range(8)]
        shards[2] = replace(shards[2], fault=Fault("before", PORTION, 3))
        shards[5] = replace(shards[5], fault=Fault("after", "include.store.chunks:write_documents"))
        codes = case.children.run(*shards)
        assert [codes[2], codes[5]] == [KILLED, KILLED]
        assert Path(shards[2].marker).exists()
        assert Path(shards[5].marker).exists()
        for shard, code in zip(shards, codes, strict=True):
            if not shard.fault:
                case.check(shard, code)
        case.run(do="finish", key="shared")
        case.assert_right(cases.rebuilt("files", "new", 40))


PAUSES = [
    None,
    Fault("before", "include.store.objects:announce", action="sleep 1"),
    Fault("after", "include.store.runs:save_plan", action="sleep 1"),
    Fault("before", PORTION, 2, action="sleep 1"),
    Fault("before", "include.indexing.publish:publish_run", action="sleep 1"),
    Fault("after", "include.store.generations:make_live", action="sleep 1"),
]


@pytest.mark.parametrize("pause", PAUSES, ids=str)
@pytest.mark.parametrize(("live", "tokens"), [(False, 60), (True, 60), (True, 40)], ids=["first", "step", "resize"])
def test_two_runs_at_once(cases: Cases, live: bool, tokens: int, pause: Fault | None) -> None:
    """Two schedulers, or a doubled event. One of them may be told to run again; one run later all is right."""
    with cases.case("files", live=live) as case:
        case.source("new", tokens)
        jobs = [case.job(do="cli"), case.job(do="cli", fault=pause)]
        codes = case.children.run(*jobs)
        said = [Path(job.log).read_text() for job in jobs]
        assert 0 in codes, said
        assert set(codes) <= {0, *TRANSIENT}, said
        case.run()
        case.assert_right(cases.rebuilt("files", "new", tokens))


@pytest.mark.parametrize("pause", PAUSES[1:5], ids=str)
def test_a_run_and_a_rollback_at_once(cases: Cases, pause: Fault) -> None:
    """Whichever comes first: queries see a whole generation, and the next run brings it in step."""
    with cases.case("files") as case:
        case.run(mode="rebuild")
        case.source("new")
        jobs = [case.job(do="cli", fault=pause), case.job(do="rollback")]
        codes = case.children.run(*jobs)
        assert codes[1] == 0
        assert codes[0] in {0, *TRANSIENT}, Path(jobs[0].log).read_text()
        with contextlib.closing(case.connect()) as connection:
            row = connection.execute("select count(*) from ragworks.generation where state = 'live'").fetchone()
            assert row == (1,)
        case.run()
        case.assert_right(cases.rebuilt("files", "new"))


def test_the_server_notices_the_death_of_a_run(cases: Cases) -> None:
    """A killed run's vector index is not built to its end: meanwhile others would take the run for a living one."""
    with cases.case("files") as case:
        case.source("new", 40)
        job = case.job(fault=Fault("sent", 'sql:create index "chunks_'), server_sleep=120.0)
        assert case.children.run(job) == [KILLED]
        assert query(case.settings, "select 1 from pg_stat_activity where query like 'select pg_sleep(120.0); create index%%'")
        began = time.monotonic()
        case.databases.wait_until_idle(case.database)
        assert time.monotonic() - began < 20
        case.run()
        case.assert_right(cases.rebuilt("files", "new", 40))
