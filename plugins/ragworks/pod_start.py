"""Waits until a pod runs, as the provider does, but tells a pod that is held in a queue from one that no node takes.

The provider's limit counts a queue of Kueue as failure to schedule, and begins anew when the triggerer restarts.
"""

from __future__ import annotations

import asyncio
import inspect
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from airflow.providers.cncf.kubernetes.kubernetes_helper_functions import PodLaunchFailedException
from airflow.providers.cncf.kubernetes.utils.pod_manager import AsyncPodManager, PodLaunchTimeoutException, PodManager

from ragworks.pods import Patience, launch_problem, waiting

if TYPE_CHECKING:
    from kubernetes.client import models as k8s


class _AwaitsStart:
    """``await_pod_start`` for both of the provider's managers; one reads pods by a coroutine, the other does not."""

    log: Any
    read_pod: Any
    stop_watching_events: bool

    async def await_pod_start(
        self, pod: k8s.V1Pod, schedule_timeout: float = 120, startup_timeout: float = 120, check_interval: float = 1
    ) -> None:
        """Return when the pod runs or ran.

        :raises PodLaunchTimeoutException: it waited too long for a node, or for its image.
        :raises PodLaunchFailedException: it will never start.
        """
        patience = Patience(schedule_timeout, startup_timeout)
        said = ""
        try:
            while True:
                remote = self.read_pod(pod)
                remote = await remote if inspect.isawaitable(remote) else remote
                found = waiting(remote)
                if found.phase == "started":
                    return
                state = f"{found.phase}: {found.message}" if found.message else found.phase
                if state != said:
                    self.log.info("Pod %s is %s", pod.metadata.name, state)
                    said = state
                if problem := launch_problem(remote):
                    raise PodLaunchFailedException(problem)
                if patience.over(found, datetime.now(UTC)):
                    raise PodLaunchTimeoutException(f"Pod {pod.metadata.name} was {state} for too long")
                await asyncio.sleep(check_interval)
        finally:
            self.stop_watching_events = True


class GpuPodManager(_AwaitsStart, PodManager):
    """The provider's manager of pods, with a patience of its own."""


class AsyncGpuPodManager(_AwaitsStart, AsyncPodManager):
    """The same for the triggerer."""
