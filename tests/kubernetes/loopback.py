"""A Kubernetes API of this process on 127.0.0.1: enough of one for the real operator, with a scheduler, GPUs and a kubelet.

The command of a pod runs as a child process. Nodes have labels and GPUs; a pod that fits nowhere stays Pending with
FailedScheduling. Pods can be preempted, deleted, killed and lost, and requests can be made to fail.
"""

from __future__ import annotations

import asyncio
import copy
import json
import logging
import os
import re
import signal
import sys
import threading
import uuid
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import kubernetes_validate
import yaml
from aiohttp import web

from include.config import PROJECT_ROOT

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping
    from pathlib import Path

logger = logging.getLogger(__name__)

QUEUE_LABEL = "kueue.x-k8s.io/queue-name"
GPU = "nvidia.com/gpu"


@dataclass
class Node:
    name: str
    gpus: int
    labels: dict[str, str] = field(default_factory=dict)


@dataclass
class Pod:
    """A pod as the API shows it, and what runs for it."""

    body: dict[str, Any]
    node: Node | None = None
    process: asyncio.subprocess.Process | None = None
    log: list[tuple[datetime, str]] = field(default_factory=list)
    over: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def name(self) -> str:
        return str(self.body["metadata"]["name"])

    @property
    def container(self) -> dict[str, Any]:
        return dict(self.body["spec"]["containers"][0])

    @property
    def gpus(self) -> int:
        return int(self.container["resources"]["limits"][GPU])

    @property
    def status(self) -> dict[str, Any]:
        return self.body["status"]  # type: ignore[no-any-return]

    def condition(self, kind: str, status: str, reason: str = "", message: str = "") -> None:
        others = [c for c in self.status["conditions"] if c["type"] != kind]
        before = next((c for c in self.status["conditions"] if c["type"] == kind and c["status"] == status), None)
        since = before["lastTransitionTime"] if before else _now()
        new = {"type": kind, "status": status, "reason": reason, "message": message, "lastTransitionTime": since}
        self.status["conditions"] = [*others, new]


class Cluster:
    """The API server; every public method may be called from the thread of the test."""

    def __init__(self, nodes: list[Node], secrets: Mapping[str, Mapping[str, str]], home: Path) -> None:
        self.nodes = nodes
        self.secrets = secrets
        self.home = home  # stands for the volume of every pod
        self.pods: dict[str, Pod] = {}
        self.events: list[dict[str, Any]] = []
        self.created: list[dict[str, Any]] = []  # every pod that was ever asked for
        self.deleted: list[str] = []
        self.requests: list[str] = []
        self.port = 0
        self._failures: list[int] = []
        self._loop = asyncio.new_event_loop()
        self._tasks: set[asyncio.Task[None]] = set()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._serve, daemon=True)

    # -- for tests -----------------------------------------------------------------------------------------------------

    def start(self) -> None:
        self._thread.start()
        assert self._ready.wait(10)

    def stop(self) -> None:
        self._do(self._kill_all())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)

    def kubeconfig(self, path: Path, token: str = "kubeconfig-token") -> Path:
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "loopback",
            "clusters": [{"name": "loopback", "cluster": {"server": f"http://127.0.0.1:{self.port}"}}],
            "users": [{"name": "me", "user": {"token": token}}],
            "contexts": [{"name": "loopback", "context": {"cluster": "loopback", "user": "me", "namespace": "ml"}}],
        }
        path.write_text(yaml.safe_dump(config))
        return path

    def fail_next(self, count: int, status: int = 500) -> None:
        self._failures += [status] * count

    def admit(self) -> None:
        """What Kueue does when there is quota: lift the gate of every pod."""

        async def lift() -> None:
            for pod in self.pods.values():
                pod.body["spec"].pop("schedulingGates", None)
                pod.condition("PodScheduled", "False", "Unschedulable", "0 nodes looked at")
            self._schedule()

        self._do(lift())

    def add_node(self, node: Node) -> None:
        async def add() -> None:
            self.nodes.append(node)
            self._schedule()

        self._do(add())

    def preempt(self, name: str) -> None:
        """A pod of higher priority needs the node: SIGTERM, the pod's grace, SIGKILL, and the pod is gone."""

        async def disrupt() -> None:
            self.pods[name].condition("DisruptionTarget", "True", "PreemptionByScheduler", "preempted by a more urgent pod")
            self._delete(self.pods[name], None)

        self._do(disrupt())

    def exceed_deadline(self, name: str) -> None:
        """The pod's activeDeadlineSeconds are over: SIGTERM, its grace, SIGKILL, and it stays as failed."""

        async def end() -> None:
            pod = self.pods[name]
            pod.status.update({"reason": "DeadlineExceeded", "message": "Pod was active longer than its deadline"})
            await self._end(pod, self._grace(pod, None))

        self._do(end())

    def kill(self, name: str) -> None:
        """``kill -9`` of everything in the container."""
        self._do(self._signal(name, signal.SIGKILL))

    def lose(self, name: str) -> None:
        """The node is gone, and the pod with it, without a word."""

        async def lose() -> None:
            pod = self.pods.pop(name)
            _signal(pod, signal.SIGKILL)

        self._do(lose())

    async def _signal(self, name: str, number: int) -> None:
        _signal(self.pods[name], number)

    async def _kill_all(self) -> None:
        for pod in list(self.pods.values()):
            _signal(pod, signal.SIGKILL)
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _do(self, work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(15)

    # -- the API -------------------------------------------------------------------------------------------------------

    def _serve(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_until_complete(self._listen())
        self._ready.set()
        self._loop.run_forever()

    async def _listen(self) -> None:
        app = web.Application(middlewares=[self._failing])
        base = "/api/v1/namespaces/{ns}"
        app.add_routes(
            [
                web.get("/version", self._version),
                web.get(base + "/pods", self._list),
                web.post(base + "/pods", self._create),
                web.get(base + "/pods/{name}", self._read),
                web.patch(base + "/pods/{name}", self._patch),
                web.delete(base + "/pods/{name}", self._remove),
                web.get(base + "/pods/{name}/log", self._read_log),
                web.get(base + "/events", self._read_events),
            ]
        )
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        self.port = runner.addresses[0][1]

    @web.middleware
    async def _failing(
        self, request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        self.requests.append(f"{request.method} {request.path}")
        if self._failures:
            return _error(self._failures.pop(0), "InternalError", "asked to fail")
        return await handler(request)

    async def _version(self, request: web.Request) -> web.Response:
        return _json({"major": "1", "minor": "33", "gitVersion": "v1.33.0"})

    async def _list(self, request: web.Request) -> web.Response:
        selector = request.query.get("labelSelector", "")
        found = [pod.body for pod in self.pods.values() if _matches(pod.body["metadata"].get("labels", {}), selector)]
        return _json({"apiVersion": "v1", "kind": "PodList", "metadata": {"resourceVersion": "1"}, "items": found})

    async def _create(self, request: web.Request) -> web.Response:
        body = await request.json()
        try:
            kubernetes_validate.validate(body, "1.33", strict=True)
        except Exception as error:
            return _error(422, "Invalid", str(error))
        if body["metadata"]["name"] in self.pods:
            return _error(409, "AlreadyExists", "there is one")
        self.created.append(copy.deepcopy(body))
        body["metadata"] |= {"uid": str(uuid.uuid4()), "creationTimestamp": _now(), "namespace": request.match_info["ns"]}
        body["status"] = {"phase": "Pending", "conditions": []}
        pod = self.pods[body["metadata"]["name"]] = Pod(body)
        if QUEUE_LABEL in body["metadata"].get("labels", {}):
            body["spec"]["schedulingGates"] = [{"name": "kueue.x-k8s.io/admission"}]
            pod.condition("PodScheduled", "False", "SchedulingGated", "Scheduling is blocked due to non-empty scheduling gates")
        self._schedule()
        return _json(body, 201)

    async def _read(self, request: web.Request) -> web.Response:
        pod = self.pods.get(request.match_info["name"])
        return _json(pod.body) if pod else _gone(request)

    async def _patch(self, request: web.Request) -> web.Response:
        pod = self.pods.get(request.match_info["name"])
        if pod is None:
            return _gone(request)
        pod.body["metadata"].setdefault("labels", {}).update((await request.json())["metadata"]["labels"])
        return _json(pod.body)

    async def _remove(self, request: web.Request) -> web.Response:
        pod = self.pods.get(request.match_info["name"])
        if pod is None:
            return _gone(request)
        options = await request.json() if request.can_read_body else {}
        grace = request.query.get("gracePeriodSeconds", options.get("gracePeriodSeconds"))
        self.deleted.append(pod.name)
        self._delete(pod, None if grace is None else float(grace))
        return _json(pod.body)

    async def _read_log(self, request: web.Request) -> web.StreamResponse:
        pod = self.pods.get(request.match_info["name"])
        if pod is None:
            return _gone(request)
        if pod.process is None:
            return _error(400, "BadRequest", "container is waiting to start")
        since = request.query.get("sinceSeconds")
        earliest = datetime.now(UTC) - timedelta(seconds=float(since)) if since else None
        stamps, follow = request.query.get("timestamps") == "true", request.query.get("follow") == "true"
        response = web.StreamResponse()
        await response.prepare(request)
        sent = 0
        while True:
            for time, line in pod.log[sent:]:
                if earliest is None or time >= earliest:
                    await response.write((f"{time.isoformat()} " if stamps else "").encode() + line.encode() + b"\n")
            sent = len(pod.log)
            if not follow or pod.over.is_set():
                return response
            await asyncio.sleep(0.05)

    async def _read_events(self, request: web.Request) -> web.StreamResponse:
        name = request.query.get("fieldSelector", "").removeprefix("involvedObject.name=")
        if request.query.get("watch") != "true":
            found = [event for event in self.events if event["involvedObject"]["name"] == name]
            return _json({"apiVersion": "v1", "kind": "EventList", "metadata": {"resourceVersion": "1"}, "items": found})
        response = web.StreamResponse()
        await response.prepare(request)
        sent, end = 0, self._loop.time() + float(request.query.get("timeoutSeconds", "30"))
        while self._loop.time() < end:
            for event in self.events[sent:]:
                if event["involvedObject"]["name"] == name:
                    await response.write(json.dumps({"type": "ADDED", "object": event}).encode() + b"\n")
            sent = len(self.events)
            await asyncio.sleep(0.05)
        return response

    # -- scheduler and kubelet -----------------------------------------------------------------------------------------

    def _schedule(self) -> None:
        for pod in self.pods.values():
            if pod.node is not None or pod.body["spec"].get("schedulingGates") or "deletionTimestamp" in pod.body["metadata"]:
                continue
            wanted = pod.body["spec"].get("nodeSelector", {})
            fitting = [node for node in self.nodes if wanted.items() <= node.labels.items()]
            node = next((node for node in fitting if self._free(node) >= pod.gpus), None)
            if node is None:
                why = f"{len(fitting)} Insufficient {GPU}" if fitting else "node(s) didn't match Pod's node affinity/selector"
                message = f"0/{len(self.nodes)} nodes are available: {why}."
                pod.condition("PodScheduled", "False", "Unschedulable", message)
                self._event(pod, "Warning", "FailedScheduling", message)
                continue
            pod.node = node
            pod.condition("PodScheduled", "True")
            self._event(pod, "Normal", "Scheduled", f"assigned to {node.name}")
            self._spawn(self._run(pod))

    def _free(self, node: Node) -> int:
        return node.gpus - sum(pod.gpus for pod in self.pods.values() if pod.node is node and not pod.over.is_set())

    def _spawn(self, work: Any) -> None:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()):
            logger.error("the loopback cluster has a defect", exc_info=error)

    async def _run(self, pod: Pod) -> None:
        container = pod.container
        try:
            environment = self._environment(container)
        except KeyError as missing:
            problem = {"reason": "CreateContainerConfigError", "message": f"secret {missing} not found"}
            pod.status["containerStatuses"] = [_container_status(container, {"waiting": problem})]
            return
        if "missing" in container["image"]:
            problem = {"reason": "ErrImagePull", "message": f"manifest for {container['image']} not found: manifest unknown"}
            pod.status["containerStatuses"] = [_container_status(container, {"waiting": problem})]
            return
        arguments = [_expand(text, environment) for text in (*container["command"], *container.get("args", []))]
        arguments[0] = sys.executable if arguments[0] == "python" else arguments[0]
        pod.process = await asyncio.create_subprocess_exec(
            *arguments, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT, env=environment, cwd=PROJECT_ROOT,
            start_new_session=True,
        )  # fmt: skip
        started = _now()
        pod.status.update({"phase": "Running", "startTime": started})
        pod.status["containerStatuses"] = [_container_status(container, {"running": {"startedAt": started}})]
        assert pod.process.stdout
        async for line in pod.process.stdout:
            pod.log.append((datetime.now(UTC), line.decode().rstrip("\n")))
        self._finish(pod, await pod.process.wait(), started)

    def _finish(self, pod: Pod, returned: int, started: str) -> None:
        code = 128 - returned if returned < 0 else returned
        ended = {"exitCode": code, "reason": "Error" if code else "Completed", "startedAt": started, "finishedAt": _now()}
        if code and pod.container.get("terminationMessagePolicy") == "FallbackToLogsOnError":
            ended["message"] = "\n".join(line for _, line in pod.log[-5:])
        pod.status["phase"] = "Failed" if code else "Succeeded"
        pod.status["containerStatuses"] = [_container_status(pod.container, {"terminated": ended})]
        pod.over.set()
        if "deletionTimestamp" in pod.body["metadata"]:
            self.pods.pop(pod.name, None)
        self._schedule()

    def _environment(self, container: dict[str, Any]) -> dict[str, str]:
        found = {"PATH": os.environ["PATH"], "PYTHONPATH": str(PROJECT_ROOT), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
        for source in container.get("envFrom", []):
            reference = source["secretRef"]
            if not reference.get("optional") or reference["name"] in self.secrets:
                found |= self.secrets[reference["name"]]
        for variable in container.get("env", []):
            if "valueFrom" not in variable:
                found[variable["name"]] = variable.get("value", "")
                continue
            reference = variable["valueFrom"]["secretKeyRef"]
            if not reference.get("optional"):
                found[variable["name"]] = self.secrets[reference["name"]][reference["key"]]
        return {name: value.replace("/var/lib/ragworks", str(self.home)) for name, value in found.items()}

    def _delete(self, pod: Pod, grace: float | None) -> None:
        pod.body["metadata"].setdefault("deletionTimestamp", _now())
        if pod.process is None or pod.over.is_set():
            self.pods.pop(pod.name, None)
            pod.over.set()
            return
        self._spawn(self._end(pod, self._grace(pod, grace)))

    async def _end(self, pod: Pod, grace: float) -> None:
        assert pod.process
        with suppress(ProcessLookupError):
            pod.process.terminate()  # the container's first process alone is told
        with suppress(TimeoutError):
            await asyncio.wait_for(pod.over.wait(), grace)
        _signal(pod, signal.SIGKILL)

    @staticmethod
    def _grace(pod: Pod, grace: float | None) -> float:
        return float(pod.body["spec"].get("terminationGracePeriodSeconds", 30)) if grace is None else grace

    def _event(self, pod: Pod, kind: str, reason: str, message: str) -> None:
        number = len(self.events)
        self.events.append(
            {
                "apiVersion": "v1",
                "kind": "Event",
                "metadata": {"name": f"{pod.name}.{number}", "uid": str(uuid.uuid4()), "resourceVersion": str(number)},
                "involvedObject": {"kind": "Pod", "name": pod.name},
                "type": kind,
                "reason": reason,
                "message": message,
            }
        )  # fmt: skip


def _signal(pod: Pod, number: int) -> None:
    if pod.process is not None and pod.process.returncode is None:
        with suppress(ProcessLookupError):
            os.killpg(pod.process.pid, number)


def _container_status(container: Mapping[str, Any], state: dict[str, Any]) -> dict[str, Any]:
    return {
        "name": container["name"], "image": container["image"], "imageID": "", "ready": "running" in state,
        "restartCount": 0, "state": state,
    }  # fmt: skip


def _expand(text: str, environment: Mapping[str, str]) -> str:
    """``$(NAME)`` as the kubelet does it: ``$$`` escapes, unknown names stay."""

    def value(match: re.Match[str]) -> str:
        if match[0].startswith("$$"):
            return match[0][1:]
        return environment.get(match[1], match[0])

    return re.sub(r"\$?\$\(([A-Za-z_][A-Za-z0-9_]*)\)", value, text)


def _matches(labels: Mapping[str, str], selector: str) -> bool:
    for part in filter(None, selector.split(",")):
        if part.startswith("!"):
            good = part[1:] not in labels
        elif "!=" in part:
            key, _, value = part.partition("!=")
            good = labels.get(key) != value
        else:
            key, _, value = part.partition("=")
            good = labels.get(key) == value
        if not good:
            return False
    return True


def _now() -> str:
    return datetime.now(UTC).isoformat().replace("+00:00", "Z")


def _json(body: Any, status: int = 200) -> web.Response:
    return web.json_response(body, status=status)


def _error(code: int, reason: str, message: str) -> web.Response:
    return _json(
        {"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": reason, "message": message, "code": code}, code
    )


def _gone(request: web.Request) -> web.Response:
    return _error(404, "NotFound", f'pods "{request.match_info["name"]}" not found')
