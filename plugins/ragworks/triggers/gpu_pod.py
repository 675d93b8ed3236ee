"""Watches the pod of a GPU task from the triggerer, which holds no worker slot."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any

from airflow.providers.cncf.kubernetes.hooks.kubernetes import AsyncKubernetesHook
from airflow.providers.cncf.kubernetes.triggers.pod import KubernetesPodTrigger

from ragworks.pod_start import AsyncGpuPodManager

if TYPE_CHECKING:
    from airflow.providers.cncf.kubernetes.utils.pod_manager import AsyncPodManager
    from airflow.triggers.base import BaseTrigger

SECRETS = ("config_dict", "connection_extras")  # the contents of a kubeconfig and of a connection


class GpuPodTrigger(KubernetesPodTrigger):
    """Fire when a pod ended, or waited too long for a node.

    It is the provider's trigger with two differences. It is stored with names only: the triggerer reads the connection and
    the kubeconfig file itself, where the provider stores their contents, tokens included. And a pod that Kueue holds back is
    not taken for one that no node takes.

    :param config_file: path of a kubeconfig file, which must exist for the triggerer too; None: what the connection says.
    """

    def __init__(self, *, config_file: str | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.config_file = config_file

    @classmethod
    def instead_of(cls, trigger: BaseTrigger, config_file: str | None) -> GpuPodTrigger:
        """The same watch without the secrets."""
        _, kwargs = trigger.serialize()
        return cls(config_file=config_file, **{key: value for key, value in kwargs.items() if key not in SECRETS})

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """What the triggerer makes this one of."""
        _, kwargs = super().serialize()
        names = {key: value for key, value in kwargs.items() if key not in SECRETS}
        return "ragworks.triggers.gpu_pod.GpuPodTrigger", {**names, "config_file": self.config_file}

    @cached_property
    def hook(self) -> AsyncKubernetesHook:
        """The API, by connection and file."""
        return _FileHook(
            config_file=self.config_file,
            conn_id=self.kubernetes_conn_id,
            in_cluster=self.in_cluster,
            cluster_context=self.cluster_context,
        )

    @cached_property
    def pod_manager(self) -> AsyncPodManager:
        """What waits for the pod's start."""
        return AsyncGpuPodManager(async_hook=self.hook)


class _FileHook(AsyncKubernetesHook):
    """The provider's asynchronous hook takes no path of a file, unlike the other one; the connection's field is the way in."""

    async def get_conn_extras(self) -> dict[str, Any]:
        extras: dict[str, Any] = await super().get_conn_extras()
        return {**extras, "kube_config_path": self.config_file} if self.config_file else extras
