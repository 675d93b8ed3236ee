"""`serve` and `keys` as a person runs them."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from include.cli.main import main
from include.config import PROJECT_ROOT
from tests.support import HashEmbedder, index, query

if TYPE_CHECKING:
    from collections.abc import Callable

    from include.config import Settings

Run = "Callable[..., tuple[int, dict[str, Any], str]]"


@pytest.fixture
def run(settings: Settings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    monkeypatch.setenv("RAGWORKS_DATABASE_URL", settings.database_url or "")
    monkeypatch.setenv("RAGWORKS_HOME", str(settings.home))
    monkeypatch.setenv("RAGWORKS_COLLECTIONS_DIR", str(settings.collections_dir))

    def call(*arguments: str) -> tuple[int, dict[str, Any], str]:
        code = main([*arguments, "--json"])
        captured = capsys.readouterr()
        return code, json.loads(captured.out), captured.err

    return call


def test_keys(run: Run, settings: Settings) -> None:
    rights = ("--scope", "search", "--scope", "chat", "--collection", "handbook", "--principal", "hr")
    code, made, _ = run("keys", "create", "web", *rights, "--requests-per-minute", "60", "--expires-days", "30")
    assert (code, made["key"].startswith("rw_"), made["state"]) == (0, True, "active")
    assert (made["scopes"], made["collections"], made["principals"]) == (["search", "chat"], ["handbook"], ["hr"])
    assert made["key"] not in str(query(settings, "select * from ragworks.api_key"))
    code, _, err = run("keys", "create", "web")
    assert (code, "exists already" in err) == (65, True)
    assert run("keys", "revoke", "web")[1]["state"] == "revoked"
    assert [key["state"] for key in run("keys", "list")[1]["keys"]] == ["revoked"]
    assert run("keys", "revoke", "nobody")[0] == 65


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        ((), 65, "no API key"),
        (("--no-auth", "--host", "0.0.0.0"), 65, "everybody on the network"),
        (("--no-auth", "--host", "203.0.113.7"), 65, "everybody on the network"),
    ],
)
def test_serve_is_not_open_to_a_network(arguments: tuple[str, ...], code: int, says: str, run: Run) -> None:
    refused, _, err = run("serve", *arguments)
    assert (refused, says in err) == (code, True)


def test_serve_until_sigterm(
    settings: Settings, environment: dict[str, str], collection: Callable[..., str], documents: Any
) -> None:
    """Says where it is, answers, and at SIGTERM writes what it has to write and ends with 0."""
    (documents / "a.md").write_text("Kangaroos carry their young in a pouch.")
    collection()
    index(settings, "handbook", embedder=HashEmbedder())
    command = [sys.executable, "-m", "include", "serve", "--no-auth", "--port", "0", "--json"]
    with subprocess.Popen(
        command, env=environment, cwd=PROJECT_ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as server:
        try:
            url = json.loads(server.stdout.readline())["url"]  # type: ignore[union-attr]
            asked = {"collection": "handbook", "query": "kangaroo secret", "mode": "lexical"}
            reply = httpx.post(f"{url}/v1/search", json=asked, timeout=60)
            assert reply.json()["results"][0]["document"] == "a.md"
            # a page of another name that resolves to this machine
            assert httpx.post(f"{url}/v1/search", json=asked, headers={"Host": "evil.example"}).status_code == 403
        finally:
            server.send_signal(signal.SIGTERM)
            _, err = server.communicate(timeout=60)
    assert server.returncode == 0
    assert "/v1/search 200" in err
    assert "secret" not in err
    assert "Traceback" not in err
    assert query(settings, "select query from ragworks.query_log") == [("kangaroo secret",)]
