"""What other systems send, what becomes of it, and what people are told."""

from __future__ import annotations

import json
import socketserver
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import TYPE_CHECKING, Any

import pytest

from include.collection_file import load_collection
from include.errors import BadConfiguration, BadData, ServiceUnavailable
from include.monitoring.alerts import parse
from include.monitoring.news import evidence, news
from include.monitoring.requests import take_alerts
from include.store import alerts, decisions
from include.store.pool import open_pool
from ragworks.notifiers import SLACK_CONN_ID, SMTP_CONN_ID, Message, channels, send, tell

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from include.config import Settings

FIRING: dict[str, Any] = {
    "status": "firing",
    "labels": {"alertname": "BadAnswers", "ragworks_collection": "handbook", "ragworks_family": "reranker"},
    "annotations": {"summary": "Answers are bad"},
    "startsAt": "2026-11-28T10:00:00.123Z",
    "endsAt": "0001-01-01T00:00:00Z",
    "generatorURL": "http://prometheus/graph",
    "fingerprint": "f00d",
}
ALERTMANAGER = {
    "version": "4", "groupKey": "{}:{}", "truncatedAlerts": 0, "status": "firing", "receiver": "ragworks", "groupLabels": {},
    "commonLabels": {}, "commonAnnotations": {}, "externalURL": "http://alertmanager", "alerts": [FIRING],
}  # fmt: skip
JOB = {"event_type": "jobs.on_failure", "workspace_id": 7, "run": {"run_id": 12}, "job": {"job_id": 3, "name": "export"}}
REGISTRY = {"event": "MODEL_VERSION_CREATED", "webhook_id": "w1", "event_timestamp": 1790000000000, "model_name": "m"}
PLAIN = {"key": "ticket-1", "title": "Customers complain", "collection": "handbook"}


@pytest.mark.parametrize(
    ("source", "payload", "address", "expected"),
    [
        (
            "alertmanager", ALERTMANAGER, {},
            ("handbook", "f00d/2026-11-28T10:00:00.123Z", "firing", "Answers are bad", "reranker"),
        ),
        (
            "databricks", JOB, {"collection": "handbook"},
            ("handbook", "7/12/jobs.on_failure", "firing", "jobs.on_failure: export, run 12", None),
        ),
        (
            "databricks", REGISTRY, {"collection": "wiki", "family": "llm"},
            ("wiki", "w1/1790000000000/MODEL_VERSION_CREATED", "firing", "MODEL_VERSION_CREATED: m", "llm"),
        ),
        ("plain", PLAIN, {"family": "embedder"}, ("handbook", "ticket-1", "firing", "Customers complain", "embedder")),
    ],
)  # fmt: skip
def test_payloads(source: str, payload: Any, address: dict[str, str], expected: tuple[Any, ...]) -> None:
    [one] = parse(source, payload, **address)
    assert (one.collection, one.key, one.state, one.title, one.family) == expected


@pytest.mark.parametrize(
    ("source", "payload", "reason"),
    [
        ("plain", [], "it is a JSON list"),
        ("plain", {"title": "x", "collection": "c"}, "key: Field required"),
        ("plain", {**PLAIN, "colection": "c"}, "colection: Extra inputs are not permitted"),
        ("plain", {"key": "1", "title": "x"}, "names no collection. Label it ragworks_collection, or add .collection=NAME"),
        ("plain", {**PLAIN, "family": "parrot"}, "there is no family 'parrot'. Use one of reranker, embedder, llm"),
        ("databricks", {}, "event: Field required"),
        ("databricks", {"event_type": "jobs.on_start"}, "run: Field required"),
        ("alertmanager", {"alerts": []}, "alerts: List should have at least 1 item"),
        ("alertmanager", {"alerts": [{**FIRING, "status": "odd"}]}, "alerts.0.status: Input should be 'firing' or 'resolved'"),
        ("alertmanager", {"alerts": [{**FIRING, "startsAt": "today"}]}, "alerts.0.startsAt"),
        ("alertmanager", {"alerts": [FIRING, {**FIRING, "labels": {}}]}, r"report 1 \('Answers are bad'\) names no collection"),
        ("alertmanager", {"version": "3", "alerts": [FIRING]}, "version"),
        ("plain", {**PLAIN, "title": "a\0b"}, "null character"),
        ("plain", {**PLAIN, "detail": {"a": ["\ud800"]}}, "half of a surrogate pair"),
        ("databricks", {**REGISTRY, "more": {"\udfff": 1}}, "half of a surrogate pair"),
        ("plain", {**PLAIN, "detail": {"a": float("nan")}}, "nan is no number"),
    ],
)
def test_a_bad_payload_is_refused_with_the_reason(source: str, payload: Any, reason: str) -> None:
    with pytest.raises(BadData, match=reason):
        parse(source, payload)


@pytest.mark.parametrize("policy", ["auto", "notify"])
def test_who_asks_for_a_training_goes_through_the_policy(
    settings: Settings, collection: Callable[..., str], policy: str
) -> None:
    quick = {"minimum_labels": 1, "policy": {"embedder": policy}}
    collection(monitoring=quick)
    configured = load_collection(settings, "handbook")
    with open_pool(settings) as pool, pool.connection() as connection:
        connection.execute("insert into ragworks.collection (name) values ('handbook')")

        def report(key: str, **more: Any) -> str:
            found = parse("plain", {**PLAIN, "key": key, **more})
            alerts.save(connection, "production", {"handbook": 1}, found)
            [seen] = take_alerts(connection, settings, configured, 1, "monitor_handbook/1")
            connection.commit()  # a later report has a later time
            return seen.outcome

        assert report("1") == "the signals are measured now"
        assert report("2", family="embedder", state="resolved") == "it is over: nothing is trained"
        # Nothing to learn from: what monitoring would not do by itself waits for a person.
        state = {"auto": "waiting", "notify": "done"}[policy]
        assert report("3", family="embedder").startswith(
            f"decision 1 to train the embedder is {state}: too little to learn from"
        )
        [known] = decisions.history(connection, "production", 1)
        assert (known.action, known.family, known.state) == ("train", "embedder", state)
        assert "reported by plain: Customers complain" in evidence(known)
        if state == "waiting":
            assert report("4", family="embedder") == "decision 1 is open: nothing is added to it"
        else:  # two reports of one delivery come at once, and both are told
            found = parse("alertmanager", {"alerts": [{**FIRING, "fingerprint": name} for name in "ab"]}, family="embedder")
            alerts.save(connection, "production", {"handbook": 1}, found)
            seen = take_alerts(connection, settings, configured, 1, "monitor_handbook/1")
            assert [one.outcome.split(":")[0] for one in seen] == [
                f"decision {number} to train the embedder is done" for number in (2, 3)
            ]
            connection.commit()
        assert take_alerts(connection, settings, configured, 1, "monitor_handbook/2") == []
        said = news(connection, "production", 1, "handbook")
        assert said[0].subject == "handbook: plain reports firing: Customers complain"
        assert said[-1].key == f"decision:{1 if state == 'waiting' else 3}:{state}"
        assert not alerts.was_told(connection, 1, said[-1].key)
        alerts.note_told(connection, 1, said[-1].key)
        alerts.note_told(connection, 1, said[-1].key)
        assert alerts.was_told(connection, 1, said[-1].key)


class _Hook(BaseHTTPRequestHandler):
    received: list[Any] = []  # noqa: RUF012
    status = 200

    def do_POST(self) -> None:
        self.received.append((self.path, json.loads(self.rfile.read(int(self.headers["Content-Length"])))))
        self.send_response(self.status)
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        pass


class _Mail(socketserver.StreamRequestHandler):
    """As much of SMTP as a client needs to hand over a message."""

    received: list[str] = []  # noqa: RUF012

    def handle(self) -> None:
        self.wfile.write(b"220 here\r\n")
        while line := self.rfile.readline().decode().strip():
            if line.upper() == "DATA":
                self.wfile.write(b"354 go on\r\n")
                body = []
                while (part := self.rfile.readline()) != b".\r\n":
                    body.append(part.decode())
                self.received.append("".join(body))
            if line.upper() == "QUIT":
                self.wfile.write(b"221 bye\r\n")
                return
            self.wfile.write(b"250 well\r\n")


@pytest.fixture
def servers(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """An incoming webhook and a mail server that Airflow has connections for."""
    _Hook.received, _Hook.status, _Mail.received = [], 200, []
    with HTTPServer(("127.0.0.1", 0), _Hook) as hook, socketserver.ThreadingTCPServer(("127.0.0.1", 0), _Mail) as mail:
        for server in (hook, mail):
            threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        slack = {"conn_type": "http", "host": f"http://127.0.0.1:{hook.server_port}/services", "password": "T0/B0/x"}
        smtp = {
            "conn_type": "smtp", "host": "127.0.0.1", "port": mail.server_address[1],
            "extra": {"to": "team@example.org", "from_email": "ragworks@example.org", "disable_ssl": True, "disable_tls": True},
        }  # fmt: skip
        monkeypatch.setenv("AIRFLOW_CONN_RAGWORKS_SLACK", json.dumps(slack))
        monkeypatch.setenv("AIRFLOW_CONN_RAGWORKS_SMTP", json.dumps(smtp))
        yield
        hook.shutdown()
        mail.shutdown()


def test_people_are_told_through_the_connections_that_there_are(servers: None, monkeypatch: pytest.MonkeyPatch) -> None:
    import asyncio

    from ragworks.notifiers import report_missed_deadline

    assert channels() == [SLACK_CONN_ID, SMTP_CONN_ID]
    assert tell(Message("A breach", "of <latency>")) == [SLACK_CONN_ID, SMTP_CONN_ID]
    assert _Hook.received == [("/services/T0/B0/x", {"text": "*A breach*\nof <latency>"})]
    [mail] = _Mail.received
    assert "Subject: A breach" in mail
    assert "To: team@example.org" in mail

    asyncio.run(report_missed_deadline({"dag_run": {"dag_id": "train_llm", "dag_run_id": "r1"}}))
    assert _Hook.received[-1][1]["text"].startswith("*train_llm is late*\nDAG train_llm, run r1: not finished at its deadline")

    _Hook.status = 503
    with pytest.raises(ServiceUnavailable, match="answers 503"):
        send(SLACK_CONN_ID, Message("x"))
    assert tell(Message("x")) == [SMTP_CONN_ID]  # a channel that is away fails nothing
    threading.Timer(0.1, lambda: setattr(_Hook, "status", 200)).start()
    assert tell(Message("x"), pauses=(0.3,)) == [SLACK_CONN_ID, SMTP_CONN_ID]  # and is tried again, where that is worth it
    send(SMTP_CONN_ID, Message("a\nBcc: mallory@example.org\0\udc00", "\ud800"))  # as another system may word its report
    assert "Subject: a Bcc: mallory@example.org" in _Mail.received[-1]
    _Hook.status = 404
    with pytest.raises(BadConfiguration, match="answers 404"):
        send(SLACK_CONN_ID, Message("x"))
    secret = "http://127.0.0.1:1/services/hidden"
    monkeypatch.setenv("AIRFLOW_CONN_RAGWORKS_SLACK", json.dumps({"conn_type": "http", "password": secret}))
    with pytest.raises(ServiceUnavailable) as away:
        send(SLACK_CONN_ID, Message("x"))
    assert "hidden" not in str(away.value)
    monkeypatch.setenv("AIRFLOW_CONN_RAGWORKS_SMTP", json.dumps({"conn_type": "smtp", "host": "127.0.0.1"}))
    with pytest.raises(BadConfiguration, match="names no to or no from_email"):
        send(SMTP_CONN_ID, Message("x"))


def test_a_rollback_is_told_when_it_is_done(
    servers: None, settings: Settings, collection: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from datetime import UTC, datetime

    from include.store import deployments
    from ragworks.operators.monitoring import ActOperator

    collection()
    places = {"DATABASE_URL": settings.database_url, "HOME": settings.home, "COLLECTIONS_DIR": settings.collections_dir}
    for name, value in places.items():
        monkeypatch.setenv(f"RAGWORKS_{name}", str(value))
    with open_pool(settings) as pool, pool.connection() as connection:
        connection.execute("insert into ragworks.collection (name) values ('handbook')")
        connection.execute(
            "insert into ragworks.model_run (run_key, family, collection_id, arguments, work_hash, state, base,"
            " base_fingerprint, code_version, version) values ('k', 'reranker', 1, '{}', 'w', 'accepted', 'b', 'f', 'c', 3)"
        )
        deployments.put_live(connection, "production", "reranker", 1, model_run=1, version=3, settings={"fingerprint": "f"})
        connection.commit()  # what is decided later is decided about it
        decisions.save(
            connection, environment="production", collection=1, at=datetime.now(UTC), action="rollback", family="reranker",
            mode="auto", state="approved", reason="worse", evidence={}, breaches=(), monitor_key="m",
        )  # fmt: skip
    act = ActOperator(task_id="act", collection="handbook", run_key="monitor_handbook/1")
    assert act.execute({}) == []
    assert [text["text"].split("\n")[0] for _, text in _Hook.received] == [
        "*handbook: rollback reranker is over: state done, replaced 3*"
    ]
    assert "rollback reranker is over" in _Mail.received[0].replace("=\r\n", "")
    assert act.execute({}) == []
    assert len(_Hook.received) == 1


def test_without_connections_the_log_alone_is_told(caplog: pytest.LogCaptureFixture) -> None:
    assert channels() == []
    assert tell(Message("A breach", "of latency")) == []
    assert "A breach: of latency" in caplog.text
