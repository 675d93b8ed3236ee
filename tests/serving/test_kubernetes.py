"""The manifests are valid to the letter, fit together, and ask the server what it answers."""

from __future__ import annotations

from typing import Any

import kubernetes_validate
import pytest
import yaml

from include.cli.main import build_parser
from include.config import PROJECT_ROOT
from include.serving.logbook import CLOSE_SECONDS
from include.serving.server import GRACE_SECONDS

MANIFESTS = [
    document for path in sorted((PROJECT_ROOT / "k8s").glob("*.yaml")) for document in yaml.safe_load_all(path.read_text())
]


def _of(kind: str) -> dict[str, Any]:
    (found,) = (manifest for manifest in MANIFESTS if manifest["kind"] == kind)
    return dict(found)


@pytest.mark.parametrize("manifest", MANIFESTS, ids=lambda m: m["kind"])
def test_valid(manifest: dict[str, Any]) -> None:
    kubernetes_validate.validate(manifest, "1.33", strict=True)


def test_they_fit_together() -> None:
    pod = _of("Deployment")["spec"]["template"]
    (container,) = pod["spec"]["containers"]
    labels = pod["metadata"]["labels"]
    assert _of("Deployment")["spec"]["selector"]["matchLabels"] == labels
    assert _of("Service")["spec"]["selector"] == labels
    assert _of("PodDisruptionBudget")["spec"]["selector"]["matchLabels"] == labels
    assert _of("HorizontalPodAutoscaler")["spec"]["scaleTargetRef"]["name"] == _of("Deployment")["metadata"]["name"]
    assert _of("Service")["spec"]["ports"][0]["targetPort"] == container["ports"][0]["name"]
    assert "replicas" not in _of("Deployment")["spec"]
    arguments = build_parser().parse_args(container["command"][3:] + container["args"])
    assert (arguments.port, arguments.no_auth) == (container["ports"][0]["containerPort"], False)


def test_there_is_time_to_stop_in_order() -> None:
    spec = _of("Deployment")["spec"]["template"]["spec"]
    before = spec["containers"][0]["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert spec["terminationGracePeriodSeconds"] >= before + GRACE_SECONDS + CLOSE_SECONDS


def test_no_secret_is_written_down() -> None:
    for variable in _of("Deployment")["spec"]["template"]["spec"]["containers"][0]["env"]:
        if any(word in variable["name"] for word in ("DATABASE", "KEY")):
            assert set(variable["valueFrom"]) == {"secretKeyRef"}
    assert not [manifest for manifest in MANIFESTS if manifest["kind"] == "Secret"]
