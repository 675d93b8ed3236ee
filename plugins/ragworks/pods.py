"""Pods of GPU tasks as plain facts: what a profile asks for, why a pod does not start, how it ended.

Nothing here calls the API. Works on the models of ``kubernetes`` and of ``kubernetes_asyncio``, which have the same attributes.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any, Literal

from ragworks.outcomes import End

if TYPE_CHECKING:
    from collections.abc import Mapping

    from kubernetes.client import models as k8s

    from ragworks.profiles import PodProfile

BASE = "base"  # the container that trains
PROFILE_ANNOTATION = "ragworks/gpu-profile"  # no label: a search for the task's pod must find it whatever its profile is
QUEUE_LABEL = "kueue.x-k8s.io/queue-name"  # https://kueue.sigs.k8s.io/docs/tasks/run/plain_pods/
PULLING = ("ErrImagePull", "ImagePullBackOff")  # may be a registry that is busy: the kubelet tries again
CERTAIN = ("InvalidImageName", "ErrImageNeverPull", "CreateContainerConfigError")
NOT_THERE = ("not found", "manifest unknown", "denied", "unauthorized")  # what registries say of an image that will not come
# Why a pod failed whole, when the cluster and not the command ended it.
# https://kubernetes.io/docs/concepts/workloads/pods/disruptions/#pod-disruption-conditions, and the kubelet's own words
DISRUPTIONS = ("Evicted", "Preempting", "Preempted", "NodeLost", "NodeShutdown", "NodeAffinity", "Shutdown", "Terminated")


def pod_of_profile(profile: PodProfile, *, gpus: int | None, environment: Mapping[str, str]) -> k8s.V1Pod:
    """The part of a pod that its profile decides, to be laid over the template.

    :param gpus: instead of the profile's number.
    :param environment: plain variables of the command; secrets are named in the template.
    """
    from kubernetes.client import models as k8s

    gpu = {profile.gpu_resource: str(gpus or profile.gpus)}
    variables = {**environment, "RAGWORKS_GPU_PROFILE": profile.name}
    if profile.price_per_hour is not None:
        variables["RAGWORKS_GPU_PRICE_PER_HOUR"] = str(profile.price_per_hour)
    return k8s.V1Pod(
        metadata=k8s.V1ObjectMeta(
            annotations={PROFILE_ANNOTATION: profile.name},
            labels={QUEUE_LABEL: profile.kueue_queue} if profile.kueue_queue else {},
        ),
        spec=k8s.V1PodSpec(
            node_selector=dict(profile.node_selector) or None,
            tolerations=[k8s.V1Toleration(**toleration.model_dump()) for toleration in profile.tolerations] or None,
            containers=[
                k8s.V1Container(
                    name=BASE,
                    env=[k8s.V1EnvVar(name=name, value=value) for name, value in variables.items()],
                    resources=k8s.V1ResourceRequirements(
                        requests={"cpu": profile.cpu, "memory": profile.memory, **gpu},
                        limits={"memory": profile.memory, **gpu},
                    ),
                )
            ],
        ),
    )


@dataclass(frozen=True, slots=True)
class Waiting:
    """Why a pod does not run yet.

    :param phase: ``queued``: held back on purpose, by Kueue's gate; ``unschedulable``: no node takes it, or none was looked for
        yet; ``starting``: it has a node; ``started``: it runs, or ran.
    :param since: when that began; None: not known from the pod.
    :param message: the scheduler's or the kubelet's.
    """

    phase: Literal["queued", "unschedulable", "starting", "started"]
    since: datetime | None = None
    message: str = ""


def waiting(pod: k8s.V1Pod) -> Waiting:
    """Why a pod does not run yet.

    A pod that was queued is unschedulable since an unknown moment: the condition keeps the time at which the pod was made.
    """
    if pod.status.phase not in ("Pending", "Unknown", None):
        return Waiting("started")
    condition = _condition(pod, "PodScheduled")
    if condition is not None and condition.status == "True":
        return Waiting(
            "starting", condition.last_transition_time or pod.metadata.creation_timestamp, ": ".join(_stuck(pod) or ())
        )
    message = (condition.message if condition is not None else "") or ""
    if condition is not None and condition.reason == "SchedulingGated":
        return Waiting("queued", None, message)
    was_queued = QUEUE_LABEL in (pod.metadata.labels or {})
    return Waiting("unschedulable", None if was_queued else pod.metadata.creation_timestamp, message)


@dataclass(slots=True)
class Patience:
    """How long a pod may take to find a node, and then to start; survives a restart of whoever looks.

    :param schedule: seconds without a node, of its profile; :param start: seconds with a node, pulling the image above all.
    """

    schedule: float
    start: float
    _first_seen: datetime | None = None

    def over(self, found: Waiting, now: datetime) -> bool:
        """Whether it has waited too long at ``now``."""
        if found.phase not in ("unschedulable", "starting"):
            self._first_seen = None
            return False
        since = found.since
        if since is None:
            since = self._first_seen = self._first_seen or now
        return now - since >= timedelta(seconds=self.schedule if found.phase == "unschedulable" else self.start)


def end_of(pod: k8s.V1Pod | None, name: str, container: str = BASE) -> End:
    """How a pod ended; None: it could not be found any more."""
    where = f"pod {name}"
    if pod is None:
        return End(where, None, disrupted=True)
    terminated = _terminated(pod, container)
    condition = _condition(pod, "DisruptionTarget")
    disrupted = condition is not None and condition.status == "True"
    reason = pod.status.reason or (condition.reason if disrupted and condition is not None else "") or ""
    taken = disrupted or reason in DISRUPTIONS or pod.metadata.deletion_timestamp is not None
    if terminated is None:
        return End(where, None, reason, pod.status.message or "", disrupted=True)
    own = terminated.reason or ""
    shown = own if own == "OOMKilled" else reason or own
    return End(where, terminated.exit_code, shown, terminated.message or pod.status.message or "", taken)


def is_kept(url: str, pod: k8s.V1Pod) -> bool:
    """Whether what a pod writes to an fsspec URL is there when the pod is gone: a folder must lie on a mounted volume."""
    scheme, separator, path = url.partition("://")
    if separator and scheme not in ("file", "local"):
        return True
    folder = PurePosixPath(path if separator else url)
    mounts = pod.spec.containers[0].volume_mounts or []
    lost = {volume.name for volume in pod.spec.volumes or [] if volume.empty_dir is not None}
    return any(folder.is_relative_to(mount.mount_path) for mount in mounts if mount.name not in lost)


def profile_name(pod: k8s.V1Pod) -> str | None:
    """The name of the profile that a pod was made of."""
    found = (pod.metadata.annotations or {}).get(PROFILE_ANNOTATION)
    return None if found is None else str(found)


def launch_problem(pod: k8s.V1Pod) -> str | None:
    """Why the container does not start, where waiting does not help: no such image, no such Secret."""
    found = _stuck(pod)
    if found is None:
        return None
    reason, message = found
    text = message.lower()
    certain = reason in CERTAIN or (reason in PULLING and any(sign in text for sign in NOT_THERE))
    return f"{reason}: {message}" if certain else None


def _stuck(pod: k8s.V1Pod) -> tuple[str, str] | None:
    for status in pod.status.container_statuses or []:
        state = status.state.waiting if status.state else None
        if state is not None and state.reason in (*CERTAIN, *PULLING):
            return state.reason, state.message or status.image or ""
    return None


def _condition(pod: k8s.V1Pod, kind: str) -> Any:
    return next((c for c in pod.status.conditions or [] if c.type == kind), None)


def _terminated(pod: k8s.V1Pod, container: str) -> Any:
    for status in pod.status.container_statuses or []:
        if status.name == container and status.state is not None:
            return status.state.terminated
    return None
