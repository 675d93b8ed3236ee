"""`python -m include.training`: its exit codes, and what it does not import."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from include.training.__main__ import main
from tests.training.tiny import plan, row

if TYPE_CHECKING:
    from include.config import Settings


@pytest.fixture
def command(environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)


@pytest.mark.usefixtures("command")
def test_done_says_what_came_of_it(settings: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    plan(settings, "one", max_steps=2)
    assert main(["embedder", "--run-key", "one", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    done = row(settings, "one")
    assert (result["state"], result["step"], result["attempts"]) == ("trained", 2, 1)
    assert (result["artifact"], result["fingerprint"]) == (done.artifact, done.fingerprint)
    assert main(["embedder", "--run-key", "one"]) == 0
    assert "embedder of one: trained, artifacts:models/embedder/handbook/" in capsys.readouterr().out


@pytest.mark.usefixtures("command")
@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["embedder", "--run-key", "nobody"], "no training has the key 'nobody'"),
        (["reranker", "--run-key", "one"], "training one: it is of the embedder. Write embedder instead of reranker"),
    ],
)
def test_what_cannot_be_done(settings: Settings, capsys: pytest.CaptureFixture[str], given: list[str], said: str) -> None:
    plan(settings, "one")
    assert main([*given, "--json"]) == 65
    heard = capsys.readouterr()
    assert said in heard.err
    assert json.loads(heard.out)["exit_code"] == 65
    assert "Traceback" not in heard.err


@pytest.mark.usefixtures("command")
def test_no_database(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("RAGWORKS_DATABASE_URL", "postgresql://nobody@127.0.0.1:9/nothing")
    assert main(["embedder", "--run-key", "one"]) == 69
    assert "does not answer" in capsys.readouterr().err


@pytest.mark.usefixtures("command")
def test_a_defect_is_said_to_be_one(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    plan(settings, "one")
    monkeypatch.setattr("include.training.embedder.load_base", lambda folder: 1 / 0)
    assert main(["embedder", "--run-key", "one"]) == 1
    assert "ZeroDivisionError: division by zero. This is a defect" in capsys.readouterr().err
    failed = row(settings, "one")
    assert (failed.state, failed.error) == ("failed", "ZeroDivisionError: division by zero")


def test_usage() -> None:
    for given in ([], ["translator", "--run-key", "x"], ["embedder"], ["embedder", "--run-key", "x", "--step", "sing"]):
        with pytest.raises(SystemExit) as left:
            main(given)
        assert left.value.code == 2


def test_nothing_of_it_imports_airflow() -> None:
    code = (
        "import sys, include.training.__main__, include.training.train, include.training.embedder, include.training.resumable;"
        "import include.training.pipeline, include.registry.artifacts;"
        "print([n for n in sys.modules if n.partition('.')[0] in ('airflow', 'ragworks', 'torch', 'transformers')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout.strip() == "[]"
