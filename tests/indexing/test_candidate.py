"""The index that an embedder on trial is judged by: built like any other, found by nobody who looks for another."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from include.cli.main import main
from include.collection_file import Embedding
from include.errors import BadConfiguration, BadData, Transient
from include.indexing.activate import activate, rollback
from include.indexing.candidate import build_candidate, drop_candidates
from include.indexing.context import open_context
from include.indexing.embed import index_shard
from include.indexing.erasing import erase_document
from include.indexing.plan import plan_run
from include.indexing.publish import publish_run, validate_run
from include.progress import Silent
from include.store import changes, generations, overview, work_items
from include.store.pool import open_pool
from tests.evaluation.trial_models import other_pooling
from tests.support import HashEmbedder, assert_same_index, export, index, query

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from include.config import Settings
    from include.embedding.embedder import Embedder
    from include.store.generations import Generation
    from include.store.pool import Pool


class OtherEmbedder(HashEmbedder):
    """Another model: other vectors of the same texts."""

    fingerprint = "hash:other"
    dimension = 96


class StoppedEmbedder(OtherEmbedder):
    """Embeds once, then waits until it is told to go on."""

    def __init__(self) -> None:
        super().__init__()
        self.begun, self.go_on = threading.Event(), threading.Event()

    def embed_documents(self, texts: Sequence[str], progress: object = None) -> NDArray[np.float32]:
        self.begun.set()
        assert self.go_on.wait(60)
        return super().embed_documents(texts)


def _fill(documents: Path, count: int = 12) -> None:
    for number in range(count):
        (documents / f"{number}.md").write_text(f"# Page {number}\n\nIt tells about the number {number} and {number * 7}.\n")


@pytest.fixture
def live(settings: Settings, documents: Path, collection: Callable[..., str]) -> int:
    """A live collection; its generation."""
    collection()
    _fill(documents)
    return int(index(settings, "handbook", embedder=HashEmbedder())["generation"])


def _build(settings: Settings, run_key: str = "trial", embedder: Embedder | None = None, **embedding: Any) -> Generation:
    with open_pool(settings) as pool:
        chosen = embedder if embedder or embedding else OtherEmbedder()
        return build_candidate(
            settings, pool, "handbook", Embedding(**embedding), run_key=run_key, progress=Silent(), embedder=chosen
        )


def _training(pool: Pool, run_key: str, state: str) -> None:
    with pool.connection() as connection:
        connection.execute(
            "insert into ragworks.model_run (run_key, family, collection_id, arguments, work_hash, state, base,"
            " base_fingerprint, code_version) select %s, 'embedder', id, '{}', 'x', %s, 'b', 'f', 'c' from ragworks.collection",
            (run_key, state),
        )


def _states(settings: Settings) -> dict[int, str]:
    return dict(query(settings, "select id, state from ragworks.generation order by id"))


def test_it_holds_what_the_live_one_holds_with_the_other_vectors(live: int, settings: Settings) -> None:
    made = _build(settings)
    assert (made.state, made.metrics["complete"], made.metrics["run_key"]) == ("candidate", True, "trial")
    with open_pool(settings) as pool, pool.connection() as connection:
        of_live = generations.generation(connection, live)
        assert changes.sizes(connection, made.collection_id, made.id).held == 12
        same = "select document_id, ordinal, start_char, end_char from ragworks.spans_%s order by 1, 2"
        assert query(settings, same % made.id) == query(settings, same % live)
        indexes = "select count(*) from pg_indexes where tablename = 'chunks_%s'"
        assert query(settings, indexes % made.id) == query(settings, indexes % live)
    assert {k: v for k, v in made.spec.items() if k != "embedding"} == {
        k: v for k, v in of_live.spec.items() if k != "embedding"
    }
    assert (made.embedder, made.dimension, made.canary is not None) == ("hash:other", 96, True)


def test_nobody_finds_it_who_looks_for_another(live: int, settings: Settings, documents: Path) -> None:
    before = export(settings, "handbook")
    with open_pool(settings) as pool, pool.connection() as connection:
        fresh = overview.overview(connection, "handbook")[0]["last_run"]
    made = _build(settings)
    again = index(settings, "handbook", embedder=HashEmbedder())
    assert (again["generation"], again["chunks"]["embedded"], again["chunks"]["written"]) == (live, 0, 0)
    with open_pool(settings) as pool:
        with pytest.raises(BadData, match=f"generation {made.id} is a candidate: it is asked by evaluations alone"):
            activate(pool, "handbook", made.id)
        with pytest.raises(BadData, match="has no generation to go back to"):
            rollback(pool, "handbook")
        with pool.connection() as connection:
            assert overview.overview(connection, "handbook")[0]["last_run"] > fresh  # of the index run, not of the candidate
            assert overview.overview(connection, "handbook")[0]["documents"] == 12
    (documents / "new.md").write_text("Something new.")
    changed = index(settings, "handbook", embedder=HashEmbedder())  # publishes, and drops old generations
    assert (changed["generation"], changed["chunks"]["written"]) == (live, 1)
    assert _states(settings) == {live: "live", made.id: "candidate"}
    assert [row for row in export(settings, "handbook") if row["document"] != "new.md"] == before


def test_a_candidate_run_says_nothing_about_publications(live: int, settings: Settings) -> None:
    """A run that is going on or failed makes the next one look twice: this one must not."""

    class Broken(OtherEmbedder):
        def embed_documents(self, texts: Sequence[str], progress: object = None) -> NDArray[np.float32]:
            raise Transient("no", "", "")

    with pytest.raises(Transient):
        _build(settings, embedder=Broken())
    assert query(settings, "select state, mode, error from ragworks.run order by id desc limit 1") == [
        ("failed", "candidate", "no")
    ]
    with open_context(settings, "handbook", embedder=HashEmbedder()) as context:
        assert plan_run(context, "after").idle
    made = _build(settings)
    assert query(settings, "select state, mode, embedded from ragworks.run where mode = 'candidate'") == [
        ("done", "candidate", 12)
    ]
    assert made.state == "candidate"


def test_promoting_its_model_embeds_nothing(
    settings: Settings, documents: Path, collection: Callable[..., str], tmp_path: Path
) -> None:
    """The real model, and the same with another pooling."""
    collection()
    _fill(documents)
    first = index(settings, "handbook")["generation"]
    folder = str(other_pooling(tmp_path / "other"))
    made = _build(settings, model=folder)
    assert query(settings, "select embedded, reused from ragworks.run where mode = 'candidate'") == [(12, 0)]
    collection(embedding={"model": folder})
    result = index(settings, "handbook")
    assert result["generation"] not in (first, made.id)
    assert (result["chunks"]["embedded"], result["chunks"]["written"]) == (0, 12)
    assert _states(settings)[made.id] == "candidate"
    collection("scratch", embedding={"model": folder})
    index(settings, "scratch")
    assert_same_index(export(settings, "handbook"), export(settings, "scratch"))


def test_a_building_generation_and_a_candidate_leave_each_other_alone(
    live: int, settings: Settings, collection: Callable[..., str]
) -> None:
    made = _build(settings)
    collection(chunking={"max_tokens": 24})
    with open_context(settings, "handbook", embedder=HashEmbedder()) as context:
        building = plan_run(context, "new").generation
        assert _states(settings) == {live: "live", made.id: "candidate", building: "building"}
        other = _build(settings, "another trial")
        assert _states(settings)[building] == "building"
        index_shard(context, "new")
        validate_run(context, "new")
        publish_run(context, "new")
    assert _states(settings) == {live: "retired", made.id: "candidate", building: "live", other.id: "candidate"}


def test_a_publication_in_the_middle_leaves_its_queue(live: int, settings: Settings, documents: Path) -> None:
    stopped = StoppedEmbedder()
    built: list[Generation] = []
    thread = threading.Thread(target=lambda: built.append(_build(settings, embedder=stopped)))
    thread.start()
    assert stopped.begun.wait(60)
    (documents / "new.md").write_text("Something new.")
    (documents / "3.md").write_text("Something else.")
    (documents / "4.md").unlink()
    index(settings, "handbook", embedder=HashEmbedder())
    assert query(settings, "select count(*) > 0 from ragworks.work_item") == [(True,)]
    stopped.go_on.set()
    thread.join(60)
    with open_pool(settings) as pool, pool.connection() as connection:
        assert not changes.any_change(connection, built[0].collection_id, built[0].id)
        assert work_items.remaining(connection, built[0].id) == 0


def test_what_changed_since_is_brought_in(live: int, settings: Settings, documents: Path) -> None:
    made = _build(settings)
    (documents / "new.md").write_text("Something new.")
    (documents / "3.md").write_text("Something else.")
    (documents / "4.md").unlink()
    index(settings, "handbook", embedder=HashEmbedder())
    counter = OtherEmbedder()
    assert _build(settings, embedder=counter).id == made.id
    assert sorted(set(counter.texts) - {t for t in counter.texts if "quick" in t or "SELECT" in t or "Ün" in t}) == [
        "Something else.", "Something new.",
    ]  # fmt: skip
    with open_pool(settings) as pool, pool.connection() as connection:
        assert not changes.any_change(connection, made.collection_id, made.id)
        counted = connection.execute(f"select chunks from ragworks.terms_{made.id} where term = 0").fetchone()  # type: ignore[arg-type]
        assert counted == (12,)


def test_builds_at_once(live: int, settings: Settings, documents: Path) -> None:
    """Three processes' worth of workers on one candidate, and another training's beside it."""
    _fill(documents, 300)
    index(settings, "handbook", embedder=HashEmbedder())
    embedders = [OtherEmbedder() for _ in range(4)]
    keys = ["one", "one", "one", "two"]
    made: list[Generation] = []
    threads = [
        threading.Thread(target=lambda k, e: made.append(_build(settings, k, e)), args=pair)
        for pair in zip(keys, embedders, strict=True)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert len(made) == 4
    by_key = {g.metrics["run_key"]: g for g in made}
    assert len({g.id for g in made}) == 2
    with open_pool(settings) as pool, pool.connection() as connection:
        for generation in by_key.values():
            assert not changes.any_change(connection, generation.collection_id, generation.id)
            assert generation.metrics["complete"]
    assert query(settings, "select state, count(*) from ragworks.run where mode = 'candidate' group by 1") == [("done", 2)]


def test_kill_nine(live: int, settings: Settings, documents: Path, environment: dict[str, str]) -> None:
    """Killed in the middle, done again: what was finished is not embedded again, and the result is whole."""
    pages = 600
    for number in range(pages):
        (documents / f"{number}.md").write_text(f"# Page {number}\n\n{' '.join(f'word{number}' for _ in range(150))}\n")
    index(settings, "handbook", embedder=HashEmbedder())
    command = [sys.executable, "-m", "tests.indexing.slow_candidate", "handbook", "trial"]
    with subprocess.Popen(command, env=environment) as child:
        deadline = time.monotonic() + 60
        while query(settings, "select coalesce(max(embedded), 0) > 0 from ragworks.run where mode = 'candidate'") != [(True,)]:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        child.send_signal(signal.SIGKILL)
    done = query(settings, "select embedded from ragworks.run where mode = 'candidate'")[0][0]
    assert done
    assert query(settings, "select metrics ->> 'complete' from ragworks.generation where state = 'candidate'") == [("false",)]

    class Again(OtherEmbedder):
        dimension = 64

    counter = Again()
    made = _build(settings, embedder=counter)
    texts = query(settings, f"select count(distinct text_hash) from ragworks.chunks_{made.id}")[0][0]
    assert len(set(counter.texts)) <= texts - done + 3  # and the canary's
    assert len(_states(settings)) == 2
    with open_pool(settings) as pool, pool.connection() as connection:
        assert not changes.any_change(connection, made.collection_id, made.id)


def test_forget_reaches_it(live: int, settings: Settings) -> None:
    made = _build(settings)
    with open_pool(settings) as pool:
        erase_document(pool, made.collection_id, "3.md")
    assert query(settings, f"select count(*) from ragworks.chunks_{made.id}") == [(11,)]
    assert query(settings, "select count(*) from ragworks.generation_document where generation_id = %s", made.id) == [(11,)]


def test_it_goes_with_its_training(live: int, settings: Settings) -> None:
    refused, going_on = _build(settings, "refused"), _build(settings, "going on")
    reference = _build(settings, generations.REFERENCE)
    with open_pool(settings) as pool:
        _training(pool, "refused", "refused")
        _training(pool, "going on", "trained")
        new = _build(settings, "new")  # takes away what no training needs any more
        assert set(_states(settings)) == {live, going_on.id, reference.id, new.id}
        assert drop_candidates(pool, new.collection_id, run_key="new") == [new.id]
        assert drop_candidates(pool, new.collection_id, run_key="new") == []
        assert drop_candidates(pool, new.collection_id) == [going_on.id]
        assert drop_candidates(pool, new.collection_id, run_key=generations.REFERENCE, keep=[reference.id]) == []
    assert _states(settings) == {live: "live", reference.id: "candidate"}
    assert query(settings, "select to_regclass(%s)", f"ragworks.chunks_{refused.id}") == [(None,)]


def test_texts_from_before_the_scrubber_go(
    live: int, settings: Settings, documents: Path, collection: Callable[..., str]
) -> None:
    (documents / "3.md").write_text("Write to otter@example.org about it.")
    index(settings, "handbook", embedder=HashEmbedder())
    made = _build(settings)
    collection(privacy={"scrub": ["EMAIL_ADDRESS"]})
    index(settings, "handbook", embedder=HashEmbedder())
    assert made.id not in _states(settings)


def test_another_cut_begins_again(live: int, settings: Settings, collection: Callable[..., str]) -> None:
    made = _build(settings)
    collection(chunking={"max_tokens": 24})
    index(settings, "handbook", embedder=HashEmbedder())
    again = _build(settings)
    assert again.id != made.id
    assert again.spec["chunking"]["max_tokens"] == 24
    assert made.id not in _states(settings)


def test_a_model_that_reads_too_little(live: int, settings: Settings) -> None:
    class Short(OtherEmbedder):
        max_tokens = 32

    with pytest.raises(BadConfiguration, match="reads at most 32 tokens"):
        _build(settings, embedder=Short())
    assert _states(settings) == {live: "live"}


def test_without_a_live_generation(settings: Settings, collection: Callable[..., str]) -> None:
    collection()
    with pytest.raises(BadData, match="has no index yet"):
        _build(settings)


def test_the_command_shows_it(
    live: int, settings: Settings, environment: dict[str, str], capsys: pytest.CaptureFixture[str], monkeypatch: Any
) -> None:
    made = _build(settings)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert main(["generations", "handbook", "--json"]) == 0
    entries = {e["id"]: e for e in json.loads(capsys.readouterr().out)["generations"]}
    assert (entries[made.id]["state"], entries[made.id]["run_key"], entries[made.id]["complete"]) == (
        "candidate",
        "trial",
        True,
    )
    assert "embedding.fingerprint hash:1 → hash:other" in entries[made.id]["changed"]
    assert main(["generations", "handbook"]) == 0
    assert "asked by evaluations alone" in capsys.readouterr().out
