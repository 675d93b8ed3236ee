"""A GPU task as a pod: the provider's operator, with profiles to fall back on and an end that is read from state.

:class:`ragworks.operators.gpu.GpuTaskOperator` is what a DAG uses. This half is imported when such a task runs, because the
Kubernetes client takes a second to import and a DAG file is parsed again and again.
"""

from __future__ import annotations

import time
from contextlib import contextmanager, suppress
from functools import cached_property
from typing import TYPE_CHECKING, Any, NoReturn

from airflow.providers.cncf.kubernetes.kubernetes_helper_functions import PodLaunchFailedException
from airflow.providers.cncf.kubernetes.operators.pod import KubernetesPodOperator
from airflow.providers.cncf.kubernetes.utils.pod_manager import PodLaunchTimeoutException
from airflow.sdk.exceptions import AirflowException

from include.errors import BadConfiguration, RagworksError, ServiceUnavailable, Transient
from ragworks.outcomes import RESUMES, End, NoNode
from ragworks.pod_start import GpuPodManager
from ragworks.pods import end_of, is_kept, launch_problem, pod_of_profile, profile_name, waiting
from ragworks.triggers.gpu_pod import GpuPodTrigger

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from datetime import timedelta

    from airflow.sdk import Context
    from airflow.triggers.base import BaseTrigger
    from kubernetes.client import models as k8s

    from ragworks.profiles import PodProfile

PLACE = "profile_place"  # in the trigger's event: which profile the pod was made of


class GpuPodOperator(KubernetesPodOperator):
    """Run a command in a pod of the first profile that finds a node, and say how it ended.

    The pod is reattached to when a worker died, and is deleted whenever it would hold a GPU for nobody: it found no node, did
    not start, or reached the task's ``execution_timeout``. One that failed by itself is kept to be looked at.

    :param profiles: in the order in which they are tried.
    :param gpus: how many, instead of the profile's number.
    :param environment: plain variables of the command; secrets are named in the template.
    """

    def __init__(
        self,
        *,
        profiles: Sequence[PodProfile],
        gpus: int | None = None,
        environment: Mapping[str, str] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.profiles = profiles
        self.gpus = gpus
        self.environment = environment or {}
        self._place = 0
        self._ended: k8s.V1Pod | None = None

    @cached_property
    def pod_manager(self) -> GpuPodManager:
        """What creates, reads and deletes pods."""
        return GpuPodManager(kube_client=self.client, callbacks=self.callbacks)

    def run(self, context: Context) -> End:
        """Start the pod, and return how it ended.

        :raises TaskDeferred: deferrable: the triggerer waits; :meth:`resume` goes on.
        :raises Transient: no profile found a node, or it did not start.
        :raises BadConfiguration: the cluster refuses the pod, or it can never start.
        """
        from kubernetes.client.exceptions import ApiException

        while True:
            self._choose()
            with _answers():
                try:
                    if self.deferrable:
                        self.execute_async(context)
                    else:
                        self.execute_sync(context)
                    return self._end()
                except (PodLaunchTimeoutException, PodLaunchFailedException):
                    self._not_started(self._current())
                except ApiException:
                    if not self._is_over():
                        raise
                    return self._end()

    def resume(self, context: Context, event: dict[str, Any]) -> End:
        """Go on after the triggerer saw something: the pod's state says what, not the event.

        :raises TaskDeferred: there is more to wait for.
        """
        self._place = int(event.get(PLACE, 0))
        self.trigger_kwargs = {PLACE: self._place}
        with _answers():
            pod = self._find(event["name"], event["namespace"])
            if pod is None or not (event["status"] == "timeout" or launch_problem(pod)):
                self.trigger_reentry(context, event)
                return self._end(event["name"])
            self.pod = pod
            if time.time() >= event.get("_execution_deadline", float("inf")):
                self._out_of_time(pod)
            if waiting(pod).phase in ("queued", "started"):  # it changed while the event was on its way
                self.invoke_defer_method(context=context)
                return self._end(event["name"])  # it is over already: nothing was deferred
            self._not_started(pod)
        return self.run(context)

    def trigger_reentry(self, context: Context, event: dict[str, Any]) -> None:
        """Fetch the last lines of the log and clean up; whether the pod failed is read from its last state afterwards."""
        with suppress(AirflowException):
            super().trigger_reentry(context, event)

    def _choose(self) -> None:
        """Lay the current profile over the template; the operator's own arguments still win."""
        profile = self.profiles[self._place]
        self.full_pod_spec = pod_of_profile(profile, gpus=self.gpus, environment=self.environment)
        self.schedule_timeout_seconds = profile.schedule_timeout_seconds
        self.trigger_kwargs = {PLACE: self._place}
        self.pod = self.pod_request_obj = self._ended = None
        self.log.info("Asking for a pod of %s", self._asked(profile))

    def _asked(self, profile: PodProfile) -> str:
        gpus = f"{self.gpus or profile.gpus} {profile.gpu_resource}"
        return f"profile {profile.name} ({gpus}, {profile.cpu} CPU, {profile.memory})"

    def get_or_create_pod(self, pod_request_obj: k8s.V1Pod, context: Context) -> k8s.V1Pod:
        """The pod of this task: a new one, or one that an earlier process left running, of whatever profile."""
        pod = super().get_or_create_pod(pod_request_obj, context)
        names = [profile.name for profile in self.profiles]
        if (name := profile_name(pod)) in names:
            self._place = names.index(name or "")
            self.schedule_timeout_seconds = self.profiles[self._place].schedule_timeout_seconds
            self.trigger_kwargs = {PLACE: self._place}
        return pod

    def build_pod_request_obj(self, context: Context | None = None, *, dry_run: bool = False) -> k8s.V1Pod:
        """Template, profile and arguments laid over each other, in this order.

        :raises BadConfiguration: what it leaves in ``RAGWORKS_ARTIFACTS`` would be lost with it.
        """
        pod: k8s.V1Pod = super().build_pod_request_obj(context, dry_run=dry_run)
        artifacts = self.environment.get("RAGWORKS_ARTIFACTS", "")
        if artifacts and not is_kept(artifacts, pod):
            fix = "Set it to an object store (s3://…), or mount a shared volume there in the pod template"
            raise BadConfiguration("RAGWORKS_ARTIFACTS", f"{artifacts} is a folder of one machine, which the pod has not", fix)
        return pod

    def cleanup(self, pod: k8s.V1Pod, remote_pod: k8s.V1Pod, xcom_result: Any = None, context: Context | None = None) -> None:
        """Log the events of a failed pod, delete one that succeeded, and keep its last state, which says how it ended."""
        self._ended = remote_pod or self._ended
        with suppress(AirflowException):  # "returned a failure" and the whole pod: `outcomes.failure` says it in words
            super().cleanup(pod, remote_pod, xcom_result, context)

    def convert_config_file_to_dict(self) -> None:
        """Nothing: the trigger is given the file's name, never its contents."""

    def defer(
        self, *, trigger: BaseTrigger, method_name: str, kwargs: Any = None, timeout: timedelta | float | None = None
    ) -> NoReturn:
        """Wait by a trigger that holds no secret, and go on in :meth:`resume`."""
        watch = GpuPodTrigger.instead_of(trigger, self.config_file)
        super().defer(trigger=watch, method_name="resume", kwargs=kwargs, timeout=timeout)

    def _end(self, name: str = "") -> End:
        name = name or (self.pod_request_obj.metadata.name if self.pod_request_obj else "")
        return end_of(self._ended, name, self.base_container_name)

    def _not_started(self, pod: k8s.V1Pod | None) -> None:
        """Delete a pod that does not run; return when the next profile is to be tried.

        :raises RagworksError: there is none, or another would not help.
        """
        if pod is None:
            raise Transient(
                "the pod is gone before it ran", "somebody deleted it, or its node was lost", "The retry makes another"
            )
        profile, name = self.profiles[self._place], pod.metadata.name
        problem, found = launch_problem(pod), waiting(pod)
        told = found.message.rstrip(".")
        self._delete(pod)
        if problem:
            fix = "Correct image or Secret (docs/gpu-tasks.md); kubectl describe shows more"
            raise BadConfiguration(f"pod {name} cannot start", problem, fix)
        if found.phase != "unschedulable":
            why = told or "its image was not pulled, or a volume not mounted, in time"
            raise Transient(
                f"pod {name} had a node and did not start in {self.startup_timeout_seconds} s", why, "The retry waits again"
            )
        asked = self._asked(profile)
        if self._place + 1 == len(self.profiles):
            tried, limit = [one.name for one in self.profiles], profile.schedule_timeout_seconds
            raise NoNode(
                f"no node for {asked} in {limit:g} s, nor for any other profile ({', '.join(tried)})",
                told,
                "The retry begins with the first again; docs/gpu-tasks.md has what may be asked for",
                tried,
            )
        self._place += 1
        self.log.warning(
            "No node for %s in %g s (%s): deleted pod %s, next is profile %s",
            asked, profile.schedule_timeout_seconds, told, name, self.profiles[self._place].name,
        )  # fmt: skip

    def _out_of_time(self, pod: k8s.V1Pod) -> NoReturn:
        """The provider would leave the pod running, on a GPU that nobody waits for."""
        self._delete(pod)
        raise Transient(f"pod {pod.metadata.name} was deleted", "the task reached its execution_timeout", RESUMES)

    def _delete(self, pod: k8s.V1Pod) -> None:
        self.patch_already_checked(pod, reraise=False)  # or it would be reattached to while it ends
        self.pod_manager.delete_pod(pod)
        self.pod = None

    def _is_over(self) -> bool:
        """Whether the pod ended or is gone, so that an error of the API about it is no error."""
        if self.pod is None:
            return False
        self._ended = self._current()
        return self._ended is None or self._ended.status.phase in ("Succeeded", "Failed")

    def _current(self) -> k8s.V1Pod | None:
        return None if self.pod is None else self._find(self.pod.metadata.name, self.pod.metadata.namespace)

    def _find(self, name: str, namespace: str) -> k8s.V1Pod | None:
        from kubernetes.client.exceptions import ApiException

        try:
            return self.hook.get_pod(name, namespace)
        except ApiException as error:
            if error.status != 404:
                raise
            return None


@contextmanager
def _answers() -> Iterator[None]:
    """What the Kubernetes API refuses, or does not answer, as an error that says so."""
    from kubernetes.client.exceptions import ApiException
    from urllib3.exceptions import HTTPError

    try:
        yield
    except ApiException as error:
        raise _refusal(error) from error
    except HTTPError as error:
        raise ServiceUnavailable("the Kubernetes API does not answer", str(error), "The retry asks again") from error


def _refusal(error: Any) -> RagworksError:
    why = " ".join(f"{error.status} {error.reason}: {error.body or ''}".split())[:2000]
    if error.status in (400, 401, 403, 404, 422):
        fix = "See docs/gpu-tasks.md for what Airflow must be allowed, and for the template and profiles"
        return BadConfiguration("the Kubernetes API refuses", why, fix)
    return ServiceUnavailable("the Kubernetes API failed", why, "The retry asks again")
