"""Promoted language models over HTTP: each answer names the adapter that made it, also while versions are swapped."""

from __future__ import annotations

import shutil
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import httpx
import psycopg
import pytest
import yaml
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict

from include.answering.champion import ChampionLLM, Maker
from include.answering.llm import LLM
from include.config import Settings
from include.datasets.conversations.options import LlmDataOptions
from include.errors import BadConfiguration, BadData, ServiceUnavailable
from include.registry import champions
from include.registry.artifacts import local_model
from include.registry.llm_champion import open_writer
from include.registry.promotion import promote
from include.registry.rollback import roll_back_model
from include.registry.versions import register
from include.serving.llm import app
from include.serving.llm import roster as rosters
from include.serving.llm.app import create_llm_app
from include.serving.llm.export import open_versions
from include.serving.llm.options import LlmOptions
from include.serving.llm.roster import Roster
from include.serving.options import Options
from include.serving.server import Server
from include.store import model_runs
from include.store.pool import open_pool
from include.training.arguments import LlmArguments
from include.training.llm.adapters import read_adapter
from include.training.llm.bases import find_base
from include.training.llm.candidates import _other
from include.training.llm.planning import resolved
from include.training.pipeline import Request
from tests.conftest import free_port
from tests.serving.conftest import running
from tests.serving.llm_models import DOCUMENTS, QUESTION, SAID, adapter_of, base_model, registered
from tests.support import HashEmbedder, index, query

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from include.store.pool import Pool

ASKED = [{"role": "system", "content": "Say what you know."}, {"role": "user", "content": QUESTION}]


@dataclass
class World:
    """A collection with two registered versions, both of one base, and a server of champions."""

    settings: Settings
    pool: Pool
    folder: Path
    base: Path
    roster: Roster
    versions: dict[str, int] = field(default_factory=dict)

    @property
    def said(self) -> dict[int, str]:
        return {number: SAID[name] for name, number in self.versions.items()}

    def promote(self, version: int, **options: Any) -> dict[str, Any]:
        return promote(self.settings, self.pool, "llm", version, collection="handbook", actor="tests", **options)

    def back(self) -> dict[str, Any]:
        return roll_back_model(self.settings, self.pool, "llm", collection="handbook", actor="tests")

    def ask(self, model: str = "ragworks-handbook", **more: Any) -> httpx.Response:
        body = {"model": model, "messages": ASKED, "temperature": 0, "max_tokens": 30, **more}
        return httpx.post(f"{self.settings.llm_server}/chat/completions", json=body, timeout=60)

    def serves(self, version: int | None) -> None:
        """Wait until the server has taken up what was promoted."""
        ends = time.monotonic() + 30
        while time.monotonic() < ends:
            reply = self.ask()
            if (reply.status_code == 404) if version is None else (reply.json().get("model") == f"ragworks-handbook@{version}"):
                return
            time.sleep(0.05)
        raise AssertionError(reply.text)


@contextmanager
def _serving(settings: Settings, pool: Pool, options: LlmOptions, key: str | None = None) -> Iterator[tuple[str, Roster]]:
    listening, roster = threading.Event(), Roster(settings, pool, options)
    server = Server(create_llm_app(roster, options, key), options, lambda _: listening.set())
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    assert listening.wait(20)
    yield f"{server.url}/v1", roster
    server.should_exit = True
    thread.join(20)


@pytest.fixture(scope="module")
def world(postgres: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("llm")
    (folder / "collections").mkdir()
    (folder / "documents").mkdir()
    with psycopg.connect(postgres, autocommit=True) as connection:
        connection.execute(sql.SQL("drop database if exists llm_serving with (force)"))
        connection.execute(sql.SQL("create database llm_serving"))
    parts = conninfo_to_dict(postgres)
    url = f"postgresql://{parts['user']}:{parts['password']}@{parts['host']}:{parts['port']}/llm_serving"
    port = free_port()
    settings = Settings(
        database_url=url, home=folder / "home", collections_dir=folder / "collections",
        artifacts=(folder / "artifacts").as_uri(), llm_server=f"http://127.0.0.1:{port}/v1",
    )  # fmt: skip
    for name, text in DOCUMENTS:
        (folder / "documents" / f"{name}.md").write_text(text)
    write_collection(settings, folder)
    index(settings, "handbook", embedder=HashEmbedder())
    base = base_model(folder / "base")
    patch = pytest.MonkeyPatch()
    patch.setattr(champions, "LOOK_SECONDS", 0.1)
    patch.setattr(rosters, "LOOK_SECONDS", 0.1)
    with open_pool(settings) as pool, _serving(settings, pool, LlmOptions(port=port)) as (_, roster):
        world = World(settings, pool, folder, base, roster)
        for name, answer in SAID.items():
            adapter = adapter_of(base, folder / name, answer)
            world.versions[name] = registered(settings, pool, base, adapter, key=f"finetune_llm/{name}")
        yield world
    patch.undo()


def write_collection(settings: Settings, folder: Path, **answers: Any) -> None:
    source = {"type": "files", "path": str(folder / "documents")}
    content = {"name": "handbook", "source": source, "answers": {"abstain_below": 0.0, "max_tokens": 30, **answers}}
    (settings.collections_dir / "handbook.yaml").write_text(yaml.safe_dump(content))


def test_nothing_is_promoted(world: World) -> None:
    assert world.ask().status_code == 404
    assert httpx.get(f"{world.settings.llm_server}/models").json()["data"] == []
    with running(world.settings, Options(port=0, no_auth=True)) as (url, _):
        reply = httpx.post(f"{url}/v1/chat/completions", json={"model": "handbook", "messages": ASKED}, timeout=30).json()
    assert (reply["extractive"], reply["passport"]["llm"]) == (True, None)


def test_there_and_back(world: World) -> None:
    """None, first, second, first: the alias follows, a number stays what it is, and each reply says who made it."""
    first, second = world.versions["first"], world.versions["second"]
    result = world.promote(first, reason="a test")
    assert (result["version"], result["replaced"], result["changed"]) == (first, None, True)
    assert world.promote(first)["changed"] is False
    world.serves(first)
    reply = world.ask().json()
    assert reply["choices"][0]["message"]["content"] == world.said[first]
    assert reply["choices"][0]["finish_reason"] == "stop"
    base, adapter = find_base(str(world.base)), read_adapter(world.folder / "first")
    assert reply["system_fingerprint"] == f"{base.fingerprint}+{adapter.fingerprint[:32]}"
    assert reply["usage"]["completion_tokens"] == 11
    assert [one["id"] for one in httpx.get(f"{world.settings.llm_server}/models").json()["data"]] == [
        "ragworks-handbook", f"ragworks-handbook@{first}"
    ]  # fmt: skip
    assert world.ask(f"ragworks-handbook@{second}").status_code == 404  # it was never promoted
    assert world.promote(second)["replaced"] == first
    world.serves(second)
    assert world.ask().json()["choices"][0]["message"]["content"] == world.said[second]
    assert world.ask(f"ragworks-handbook@{first}").json()["choices"][0]["message"]["content"] == world.said[first]
    result = world.back()
    assert (result["version"], result["replaced"]) == (first, second)
    world.serves(first)
    assert world.ask().json()["choices"][0]["message"]["content"] == world.said[first]


def test_chat_completions_use_the_champion(world: World) -> None:
    """What `ragworks serve` answers is the champion's, whole and streamed, and its passport names base and adapter."""
    first = world.versions["first"]
    import openai

    world.promote(first)
    adapter = read_adapter(world.folder / "first")
    with running(world.settings, Options(port=0, no_auth=True)) as (url, _):
        client = openai.OpenAI(base_url=f"{url}/v1", api_key="none")
        whole = client.chat.completions.create(model="handbook", messages=ASKED)  # type: ignore[arg-type]
        streamed = list(client.chat.completions.create(model="handbook", messages=ASKED, stream=True))  # type: ignore[arg-type]
    text = "".join(chunk.choices[0].delta.content or "" for chunk in streamed if chunk.choices)
    assert whole.choices[0].message.content == text == world.said[first]
    for passport in (whole.passport, streamed[-1].passport):  # type: ignore[attr-defined]
        assert passport["llm"] == {
            "model": f"ragworks-handbook@{first}", "base_url": world.settings.llm_server, "version": first,
            "base": str(world.base), "base_fingerprint": adapter.base, "adapter": adapter.fingerprint,
            "artifact": passport["llm"]["artifact"],
        }  # fmt: skip
    assert [one["document"] for one in whole.citations]  # type: ignore[attr-defined]


def _names(replies: list[httpx.Response], version: int) -> bool:
    """Whether the newest answer is by this version, or failed."""
    return bool(replies) and (replies[-1].status_code != 200 or f"handbook@{version}" in replies[-1].text)


def test_swaps_under_load(world: World) -> None:
    """Promotions and rollbacks while questions are answered: none fails, and each answer is by the adapter that it names."""
    first, second = world.versions["first"], world.versions["second"]
    world.promote(first)
    stop, direct, asked = threading.Event(), list[httpx.Response](), list[httpx.Response]()

    def load(call: Any, replies: list[httpx.Response]) -> None:
        while not stop.is_set():
            replies.append(call())

    with running(world.settings, Options(port=0, no_auth=True)) as (url, _), httpx.Client(timeout=60) as http:
        chat = {"model": "handbook", "messages": ASKED}
        calls = [(world.ask, direct)] * 2 + [(lambda: http.post(f"{url}/v1/chat/completions", json=chat), asked)] * 2
        threads = [threading.Thread(target=load, args=call) for call in calls]
        for thread in threads:
            thread.start()
        try:
            steps = (lambda: world.promote(second), world.back)
            for step, version in zip(steps * 2, (second, first) * 2, strict=True):
                step()
                limit = time.monotonic() + 60
                while not (_names(direct, version) and _names(asked, version)) and time.monotonic() < limit:
                    time.sleep(0.05)
        finally:
            stop.set()
            for thread in threads:
                thread.join()
    assert {reply.status_code for reply in (*direct, *asked)} == {200}
    bodies = [reply.json() for reply in direct]
    made = {(body["model"], body["system_fingerprint"], body["choices"][0]["message"]["content"]) for body in bodies}
    base = find_base(str(world.base)).fingerprint
    expected = {
        (f"ragworks-handbook@{number}", f"{base}+{read_adapter(world.folder / name).fingerprint[:32]}", SAID[name])
        for name, number in world.versions.items()
    }
    assert made == expected
    told = {(b["passport"]["llm"]["version"], b["choices"][0]["message"]["content"]) for b in (r.json() for r in asked)}
    assert told == {(first, SAID["first"]), (second, SAID["second"])}


def test_together_and_alone_are_the_same(world: World) -> None:
    """A batch of conversations of different lengths, one of which stops early and one of which is cut."""
    first = world.versions["first"]
    world.promote(first)
    world.serves(first)
    more: list[dict[str, Any]] = [{}, {"stop": "young"}, {"max_tokens": 3}, {"stop": ["zebra", " pouch"]}, {"seed": 7}]
    found: dict[int, dict[str, Any]] = {}
    threads = [threading.Thread(target=lambda n=n: found.update({n: world.ask(**more[n]).json()})) for n in range(len(more))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    choices = [found[n]["choices"][0] for n in range(len(more))]
    assert [(one["message"]["content"], one["finish_reason"]) for one in choices] == [
        (SAID["first"], "stop"), ("Kangaroos carry their ", "stop"), ("Kangaroos carry their", "length"),
        ("Kangaroos carry their young in a", "stop"), (SAID["first"], "stop"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("body", "status", "says"),
    [
        ({"model": "gpt-4"}, 404, "no such model"),
        ({"model": "ragworks-other"}, 404, "no such model"),
        ({"messages": []}, 400, "messages"),
        ({"tools": [{}]}, 400, "tools"),
        ({"messages": [{"role": "user", "content": "kangaroo " * 4096}]}, 400, "Shorten it"),
    ],
)
def test_refused(world: World, body: dict[str, Any], status: int, says: str) -> None:
    world.promote(world.versions["first"])
    world.serves(world.versions["first"])
    reply = world.ask(**body)
    assert reply.status_code == status
    assert says in reply.json()["error"]["message"]


def test_only_what_opens_is_promoted(world: World, tmp_path: Path) -> None:
    """A tampered adapter, another base, one that the gate refused, and a collection that wants no champion."""
    shutil.copytree(world.folder / "first", tmp_path / "adapter")
    refused = registered(world.settings, world.pool, world.base, tmp_path / "adapter", key="k/refused", state="refused")
    with pytest.raises(BadData, match="not accepted by the gate: it is worse"):
        world.promote(refused)
    other = registered(world.settings, world.pool, base_model(tmp_path / "other", seed=5), tmp_path / "adapter", key="k/other")
    with pytest.raises(BadData, match="the adapter was trained on llm:"):
        world.promote(other)
    write_collection(world.settings, world.folder, llm="endpoint")
    with pytest.raises(BadConfiguration, match=r"answers\.llm is endpoint"):
        world.promote(world.versions["second"])
    write_collection(world.settings, world.folder)
    changed = adapter_of(world.base, tmp_path / "changed", "Light is fast.")
    version = registered(world.settings, world.pool, world.base, changed, key="k/changed")
    ((place,),) = query(world.settings, "select artifact from ragworks.model_run where run_key = 'k/changed'")
    weights = world.folder / "artifacts" / place.removeprefix("artifacts:") / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-4] + b"abcd")
    with pytest.raises(BadData, match="not the file that was saved"):
        world.promote(version)


def test_a_number_is_not_exported_as_another_adapter(world: World) -> None:
    """Manifests say which adapter a number was where they were written; here it may be another one."""
    first, second = sorted(world.versions.values())
    made = open_versions(world.settings, world.pool, "handbook", [first, second])
    told = {version: model.adapter.fingerprint for version, model in made.items()}
    assert open_versions(world.settings, world.pool, "handbook", [first, second], told) == made
    with pytest.raises(BadData, match=f"llm {first} of handbook .* is expected"):
        open_versions(world.settings, world.pool, "handbook", [first, second], {first: told[second]})


def test_numbers_are_of_an_environment(world: World) -> None:
    """The second training of production is the first of staging: there `merge_with` 1 and `champion` mean it."""
    staging = world.settings.model_copy(update={"environment": "staging"})
    assert register(staging, world.pool, "finetune_llm/second") == 1
    promote(staging, world.pool, "llm", 1, collection="handbook", actor="tests")
    wanted = read_adapter(world.folder / "second").fingerprint
    request = Request("llm", "handbook", LlmArguments(base="champion", merge_with=("champion",)), LlmDataOptions())
    assert resolved(staging, world.pool, request).arguments.merge_with == ("1",)  # type: ignore[union-attr]
    with world.pool.connection() as connection:
        run = model_runs.by_key(connection, "finetune_llm/first")
    assert _other(staging, world.pool, run, "1").adapter.fingerprint == wanted
    assert _other(world.settings, world.pool, run, "1").adapter.fingerprint != wanted


def test_a_path_makes_no_line_of_the_log(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    monkeypatch.setattr(app.logger, "info", lambda text, *values: said.append(text % values))
    httpx.get(f"{world.settings.llm_server}/x%0AINFO%20forged", timeout=30)
    began = time.monotonic()
    while not any("forged" in line for line in said):  # the line is written after the answer
        assert time.monotonic() - began < 10
        time.sleep(0.01)
    (line,) = [line for line in said if "forged" in line]
    assert "/v1/x%0AINFO%20forged 404" in line


def test_the_passport_is_not_believed_blindly(world: World) -> None:
    """A server that answers with another adapter than the one that was promoted is an error, as is one that is not there."""
    world.promote(world.versions["first"])
    world.serves(world.versions["first"])
    settings = world.settings
    writer = open_writer(settings, world.pool, _collection(settings))
    assert isinstance(writer, ChampionLLM)
    assert writer.complete(ASKED, 30, 0.0).text == SAID["first"]
    facts = writer.maker
    wrong = Maker(facts.collection, facts.version, facts.base, facts.base_fingerprint, "0" * 64, facts.artifact)
    with pytest.raises(BadConfiguration, match="adapter 0000"):
        ChampionLLM(settings, wrong).complete(ASKED, 30, 0.0)
    with pytest.raises(BadConfiguration, match="adapter 0000"):
        list(ChampionLLM(settings, wrong).stream(ASKED, 30, 0.0))
    away = settings.model_copy(update={"llm_server": f"http://127.0.0.1:{free_port()}/v1"})
    champion = ChampionLLM(away, facts)
    with pytest.raises(ServiceUnavailable, match="ragworks serve-llm handbook"):
        champion.complete(ASKED, 30, 0.0)
    named = settings.model_copy(update={"llm_base_url": "http://127.0.0.1:1/v1", "llm_model": "other"})
    write_collection(settings, world.folder, llm="endpoint")
    other = open_writer(named, world.pool, _collection(settings))
    write_collection(settings, world.folder)
    assert (type(other), other.model if other else None) == (LLM, "other")


def test_reduced_precision_and_a_key(world: World) -> None:
    """On another port in 4 bits, behind a key: the same answers here, and replies say in which precision the base runs."""
    world.promote(world.versions["first"])
    with pytest.raises(BadConfiguration, match="everybody on the network"):
        LlmOptions(host="0.0.0.0").check(None)
    with _serving(world.settings, world.pool, LlmOptions(port=0, precision="nf4"), key="secret") as (url, roster):
        roster.look()
        settings = world.settings.model_copy(update={"llm_server": url, "llm_server_key": "secret"})
        writer = open_writer(settings, world.pool, _collection(settings))
        assert writer is not None
        assert writer.complete(ASKED, 30, 0.0).text == SAID["first"]
        body = {"model": "ragworks-handbook", "messages": ASKED, "max_tokens": 1}
        assert httpx.post(f"{url}/chat/completions", json=body).status_code == 401
        reply = httpx.post(f"{url}/chat/completions", json=body, headers={"Authorization": "Bearer secret"}).json()
    assert reply["system_fingerprint"].split("+")[0].endswith(":nf4")


def _collection(settings: Settings) -> Any:
    from include.collection_file import load_collection

    return load_collection(settings, "handbook")


def test_files_that_vanish(world: World, tmp_path: Path) -> None:
    """A champion that cannot be opened leaves the one before in its place; by number it is an error that says why."""
    first = world.versions["first"]
    world.promote(first)
    world.serves(first)
    gone = adapter_of(world.base, tmp_path / "gone", "Light is fast.")
    version = registered(world.settings, world.pool, world.base, gone, key="k/gone")
    result = world.promote(version)
    assert result["changed"]
    world.serves(version)
    world.back()
    world.serves(first)
    with _serving(world.settings, world.pool, LlmOptions(port=0)) as (url, roster):
        roster.look()
        (artifact,) = [one.artifact for one in _history(world) if one.version == version][:1]
        shutil.rmtree(local_model(artifact, world.settings))
        world.back()  # to the one that is gone
        roster.look()
        body = {"messages": ASKED, "temperature": 0, "max_tokens": 30}
        reply = httpx.post(f"{url}/chat/completions", json={**body, "model": "ragworks-handbook"}, timeout=30)
        assert reply.json()["model"] == f"ragworks-handbook@{first}"
        reply = httpx.post(f"{url}/chat/completions", json={**body, "model": f"ragworks-handbook@{version}"}, timeout=30)
        assert (reply.status_code, reply.json()["error"]["code"]) == (503, "model_unavailable")
    world.back()


def _history(world: World) -> Any:
    from include.store import collections, deployments

    with world.pool.connection() as connection:
        collection = collections.collection_id(connection, "handbook")
        return deployments.history(connection, "production", "llm", collection)
