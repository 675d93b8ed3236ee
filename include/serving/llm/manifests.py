"""Kubernetes manifests for vLLM: one Deployment that serves versions of one base, as LoRA modules or as merged weights.

Versions are served under the names that answering asks for, `ragworks-COLLECTION@VERSION`, so that a promotion or a rollback
between versions of one manifest needs nothing of the cluster.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from include.answering.champion import model_name
from include.errors import BadConfiguration

if TYPE_CHECKING:
    from collections.abc import Mapping

    from include.training.llm.adapters import Adapter

RANKS = (8, 16, 32, 64, 128, 256, 320, 512)  # that --max-lora-rank takes (vLLM, config/lora.py)
BASE, FOLDER = "base", "/models"
MIB = 2**20
_STARTUP_SECONDS = 30 * 60  # to fetch, read and warm up the weights


@dataclass(frozen=True, slots=True)
class Placing:
    """Where and how large.

    :param image: of vLLM; ``exporter`` the project's own, whose `export-llm` brings the weights.
    :param gpus: of one pod, over which the model is split.
    :param bytes: of the base's weights in their files.
    :param environment: whose version numbers these are: each environment counts its own.
    :param merged: full weights of one version, instead of LoRA modules.
    :param profile: a profile of include/k8s/profiles.yaml: node_selector, tolerations, cpu.
    """

    collection: str
    image: str
    exporter: str
    bytes: int
    environment: str = "production"
    gpus: int = 1
    replicas: int = 1
    merged: bool = False
    profile: Mapping[str, Any] | None = None

    @property
    def name(self) -> str:
        """Of all that is made; names of Kubernetes have no underscore."""
        return f"ragworks-llm-{self.collection.replace('_', '-')}"


def adapter_folder(collection: str, version: int) -> str:
    """Where the files of a version lie below the exported folder."""
    return f"adapters/{collection}-{version}"


def refusals(adapters: Mapping[int, Adapter], *, merged: bool) -> list[str]:
    """Why vLLM would not serve what was trained; nothing when it would."""
    found = []
    if len({adapter.base_digest for adapter in adapters.values()}) > 1:
        found.append("the versions have different bases, and a server of vLLM has one: export them apart")
    if merged:
        return found + (["merged weights are of one version alone"] if len(adapters) > 1 else [])
    for version, adapter in adapters.items():
        if adapter.dora or adapter.features:
            what = "DoRA" if adapter.dora else ", ".join(adapter.features)
            found.append(f"version {version} has {what}, which vLLM does not serve as a LoRA module: use --merged")
        elif max(adapter.ranks.values()) > RANKS[-1]:
            found.append(f"version {version} has rank {max(adapter.ranks.values())}, beyond {RANKS[-1]}: use --merged")
    return found


def vllm_arguments(collection: str, adapters: Mapping[int, Adapter], *, merged: bool, gpus: int) -> list[str]:
    """What vLLM is started with.

    ``--generation-config vllm`` leaves out penalties that the base's files may ask for, as `serve-llm` does and the gate did.
    """
    common = ["--port", "8000", "--generation-config", "vllm", *(["--tensor-parallel-size", str(gpus)] if gpus > 1 else [])]
    if merged:
        (version,) = adapters
        return ["--model", f"{FOLDER}/merged", "--served-model-name", model_name(collection, version), *common]
    modules = [
        {"name": model_name(collection, v), "path": f"{FOLDER}/{adapter_folder(collection, v)}", "base_model_name": BASE}
        for v in sorted(adapters)
    ]
    highest = max(rank for adapter in adapters.values() for rank in adapter.ranks.values())
    return [
        "--model", f"{FOLDER}/{BASE}", "--served-model-name", BASE, *common, "--enable-lora",
        "--max-lora-rank", str(next(rank for rank in RANKS if rank >= highest)), "--max-loras", str(len(modules)),
        "--lora-modules", *(json.dumps(module) for module in modules),
    ]  # fmt: skip


def vllm_manifests(placing: Placing, adapters: Mapping[int, Adapter]) -> list[dict[str, Any]]:
    """Deployment, Service and PodDisruptionBudget.

    :param adapters: by version.
    :raises BadConfiguration: vLLM would not serve them; every reason is named.
    """
    if reasons := refusals(adapters, merged=placing.merged):
        raise BadConfiguration(f"manifests for llm {', '.join(map(str, adapters))} of {placing.collection}", "; ".join(reasons))
    labels = {"app.kubernetes.io/name": "ragworks", "app.kubernetes.io/component": placing.name}
    meta = {"name": placing.name, "labels": labels}
    pod = _pod(placing, adapters)
    return [
        {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": meta, "spec": {
            "replicas": placing.replicas, "selector": {"matchLabels": labels},
            # A GPU is scarce: the new pod may have to wait for the old one's, unless a second is free.
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}},
            "progressDeadlineSeconds": 2 * _STARTUP_SECONDS,
            "template": {"metadata": {"labels": labels, "annotations": _told(adapters)}, "spec": pod},
        }},
        {"apiVersion": "v1", "kind": "Service", "metadata": meta, "spec": {
            "selector": labels, "ports": [{"name": "http", "port": 80, "targetPort": "http"}],
        }},
        {"apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": meta, "spec": {
            "maxUnavailable": 1, "selector": {"matchLabels": labels},
        }},
    ]  # fmt: skip


def _told(adapters: Mapping[int, Adapter]) -> dict[str, str]:
    """What the pods say of themselves; another adapter under an old number makes new pods."""
    return {f"ragworks/llm-{version}": adapter.fingerprint for version, adapter in sorted(adapters.items())} | {
        "ragworks/base": next(iter(adapters.values())).base
    }


def _pod(placing: Placing, adapters: Mapping[int, Adapter]) -> dict[str, Any]:
    profile = placing.profile or {"tolerations": [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}]}
    arguments = vllm_arguments(placing.collection, adapters, merged=placing.merged, gpus=placing.gpus)
    weights = -(-placing.bytes // MIB)
    placed = {key: profile[source] for key, source in (("nodeSelector", "node_selector"), ("tolerations", "tolerations"))
              if profile.get(source)}  # fmt: skip
    return {
        "automountServiceAccountToken": False, **placed,
        "securityContext": {"fsGroup": 50000, "seccompProfile": {"type": "RuntimeDefault"}},
        "terminationGracePeriodSeconds": 120,
        "initContainers": [_exporter(placing, adapters, weights)],
        "containers": [{
            "name": "vllm", "image": placing.image, "args": arguments,
            "ports": [{"name": "http", "containerPort": 8000}],
            "env": [
                {"name": "VLLM_API_KEY", "valueFrom": {"secretKeyRef": {"name": "ragworks", "key": "llm-server-key"}}},
                {"name": "HF_HUB_OFFLINE", "value": "1"}, {"name": "HOME", "value": "/tmp"},
            ],
            "resources": {
                "requests": {"cpu": str(profile.get("cpu", "4")), "memory": f"{weights + 8192}Mi"},
                "limits": {"memory": f"{2 * weights + 16384}Mi", "nvidia.com/gpu": str(placing.gpus)},
            },
            "startupProbe": {"httpGet": {"path": "/health", "port": "http"}, "periodSeconds": 10,
                             "failureThreshold": _STARTUP_SECONDS // 10},
            "readinessProbe": {"httpGet": {"path": "/health", "port": "http"}, "periodSeconds": 5, "timeoutSeconds": 3},
            "livenessProbe": {"httpGet": {"path": "/health", "port": "http"}, "periodSeconds": 15, "timeoutSeconds": 10,
                              "failureThreshold": 8},
            "lifecycle": {"preStop": {"sleep": {"seconds": 5}}},
            "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
            "volumeMounts": [{"name": "models", "mountPath": FOLDER, "readOnly": True},
                             {"name": "shm", "mountPath": "/dev/shm"}, {"name": "tmp", "mountPath": "/tmp"}],
        }],
        "volumes": [
            {"name": "models", "emptyDir": {"sizeLimit": f"{3 * weights + 4096}Mi"}}, {"name": "tmp", "emptyDir": {}},
            {"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": "2Gi"}},
        ],
    }  # fmt: skip


def _exporter(placing: Placing, adapters: Mapping[int, Adapter], weights: int) -> dict[str, Any]:
    """Brings the files from the registry, after their hashes were compared; merging holds the weights in memory.

    It is told which adapters it must find: a number alone means another one in another environment or database.
    """
    versions = sorted(adapters)
    expected = [text for version in versions for text in ("--expect", f"{version}={adapters[version].fingerprint}")]
    target = "merged" if placing.merged else "files"
    place = f"{FOLDER}/merged" if placing.merged else FOLDER
    memory = f"{(2 * weights if placing.merged else 0) + 2048}Mi"
    home = {
        "RAGWORKS_ENV": placing.environment,
        "RAGWORKS_HOME": f"{FOLDER}/.ragworks",
        "HF_HOME": f"{FOLDER}/.hub",
        "HOME": "/tmp",
    }
    return {
        "name": "weights", "image": placing.exporter, "command": ["python", "-m", "include", "export-llm"],
        "args": [*map(str, versions), "--collection", placing.collection, "--target", target, "--to", place, "--again",
                 *expected],
        "env": [
            *({"name": name, "valueFrom": {"secretKeyRef": {"name": "ragworks", "key": key, "optional": optional}}}
              for name, key, optional in (("RAGWORKS_DATABASE_URL", "database-url", False),
                                          ("RAGWORKS_ARTIFACTS", "artifacts", False), ("HF_TOKEN", "hf-token", True))),
            *({"name": name, "value": value} for name, value in home.items()),
        ],
        "resources": {"requests": {"cpu": "1", "memory": memory}, "limits": {"memory": memory}},
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}, "runAsNonRoot": True,
                            "runAsUser": 50000},
        "volumeMounts": [{"name": "models", "mountPath": FOLDER}, {"name": "tmp", "mountPath": "/tmp"}],
    }  # fmt: skip
