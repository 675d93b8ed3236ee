"""Profiles are checked to the letter, and what they make of the template is a valid pod."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import kubernetes_validate
import pytest
import yaml

from include.config import Settings
from include.errors import BadConfiguration
from ragworks.operators.gpu import GpuTaskOperator
from ragworks.profiles import PROFILES, TEMPLATE, read_profiles

if TYPE_CHECKING:
    from pathlib import Path

SETTINGS = Settings(database_url="postgresql://me:hunter2@db/ragworks", artifacts="s3://models/ragworks", compute="kubernetes")
SHIPPED = read_profiles(PROFILES)


def _pod(place: int = 0, settings: Settings = SETTINGS, **arguments: Any) -> dict[str, Any]:
    from kubernetes.client import ApiClient

    operator = GpuTaskOperator(task_id="train", family="reranker", run_key="k", **arguments).pod_operator(settings)
    operator._place = place
    operator._choose()
    return dict(ApiClient().sanitize_for_serialization(operator.build_pod_request_obj(dry_run=True)))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "profiles: [{name: a, node_selektor: {}}]",
            r"profiles\.0\.node_selektor: unknown key, perhaps node_selector is meant",
        ),
        ("profiles: [{name: a, tolerations: [{keys: x}]}]", r"profiles\.0\.tolerations\.0\.keys: unknown key, perhaps key"),
        ("profile: [{name: a}]", "profile: unknown key, perhaps profiles is meant"),
        ("profiles: []", "profiles: Tuple should have at least 1 item"),
        ("profiles: [{cpu: '4'}]", r"profiles\.0\.name: missing, it is required"),
        ("profiles: [{name: a, memory: 16 GB}]", r"profiles\.0\.memory: .*pattern.*got '16 GB'"),
        ("profiles: [{name: a, cpu: 4}]", r"profiles\.0\.cpu: Input should be a valid string \(got 4\)"),
        ("profiles: [{name: a, gpus: 0}]", r"profiles\.0\.gpus: .*greater than or equal to 1 \(got 0\)"),
        ("profiles: [{name: a, price_per_hour: -1}]", r"profiles\.0\.price_per_hour: .*\(got -1\)"),
        ("profiles: [{name: a, schedule_timeout_seconds: 0}]", r"profiles\.0\.schedule_timeout_seconds: .*\(got 0\)"),
        ("profiles: [{name: a, tolerations: [{operator: Equal, value: x}]}]", "without a key the operator must be Exists"),
        ("profiles: [{name: a, tolerations: [{key: k, operator: Exists, value: x}]}]", "operator Exists takes no value"),
        ("profiles: [{name: a}, {name: a}]", "two profiles are called a"),
        ("- a", "not a mapping of settings"),
        ("profiles: [", "not readable as YAML"),
    ],
)
def test_a_wrong_file_is_refused_with_key_and_fix(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "profiles.yaml"
    path.write_text(text)
    with pytest.raises(BadConfiguration, match=message) as error:
        read_profiles(path)
    assert str(error.value).startswith(str(path))


def test_the_template_is_valid_and_names_no_secret_but_by_reference() -> None:
    template = yaml.safe_load(TEMPLATE.read_text())
    kubernetes_validate.validate(template, "1.33", strict=True)
    (container,) = template["spec"]["containers"]
    assert container["name"] == "base"
    assert template["spec"]["restartPolicy"] == "Never"
    variables = {variable["name"]: variable for variable in container["env"]}
    assert set(variables["RAGWORKS_DATABASE_URL"]["valueFrom"]) == {"secretKeyRef"}
    key = {"name": "ragworks", "key": "embedding-api-key", "optional": True}  # not everybody embeds by an endpoint
    assert variables["RAGWORKS_EMBEDDING_API_KEY"]["valueFrom"] == {"secretKeyRef": key}
    assert container["securityContext"]["readOnlyRootFilesystem"] is True


@pytest.mark.parametrize(
    "place", range(len(read_profiles(PROFILES))), ids=[profile.name for profile in read_profiles(PROFILES)]
)
def test_every_shipped_profile_makes_a_valid_pod(place: int) -> None:
    pod = _pod(place)
    kubernetes_validate.validate(pod, "1.33", strict=True)
    profile = SHIPPED[place]
    spec, (container,) = pod["spec"], pod["spec"]["containers"]
    assert spec.get("nodeSelector", {}) == profile.node_selector
    assert spec["tolerations"][0]["key"] == "nvidia.com/gpu"
    assert container["resources"] == {
        "requests": {"cpu": profile.cpu, "memory": profile.memory, "nvidia.com/gpu": "1"},
        "limits": {"memory": profile.memory, "nvidia.com/gpu": "1"},
    }
    variables = {v["name"]: v.get("value") for v in container["env"]}
    assert variables["RAGWORKS_GPU_PROFILE"] == profile.name
    assert variables["RAGWORKS_ARTIFACTS"] == "s3://models/ragworks"
    assert variables["RAGWORKS_ENV"] == "production"


def test_the_rest_of_the_pod() -> None:
    pod = _pod()
    spec, (container,) = pod["spec"], pod["spec"]["containers"]
    assert [*container["command"], *container["args"]] == [
        "python", "-m", "include.training", "reranker", "--run-key", "k", "--step", "train",
    ]  # fmt: skip
    assert container["terminationMessagePolicy"] == "FallbackToLogsOnError"
    assert (spec["activeDeadlineSeconds"], spec["terminationGracePeriodSeconds"]) == (86_400, 120)
    assert {"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": "4Gi"}} in spec["volumes"]
    assert {"name": "shm", "mountPath": "/dev/shm"} in container["volumeMounts"]
    assert pod["metadata"]["labels"]["ragworks/family"] == "reranker"
    assert pod["metadata"]["name"].startswith("ragworks-reranker-train-")
    assert "hunter2" not in str(pod)


def test_arguments_of_the_operator_win() -> None:
    pod = _pod(
        image="mine:1",
        namespace="ml",
        gpus="2",
        grace_seconds=30,
        pod_arguments={"service_account_name": "trainer", "priority_class_name": "low", "node_selector": {"zone": "a"}},
    )
    kubernetes_validate.validate(pod, "1.33", strict=True)
    (container,) = pod["spec"]["containers"]
    assert (container["image"], pod["metadata"]["namespace"]) == ("mine:1", "ml")
    assert container["resources"]["limits"]["nvidia.com/gpu"] == "2"
    assert (pod["spec"]["serviceAccountName"], pod["spec"]["terminationGracePeriodSeconds"]) == ("trainer", 30)
    assert pod["spec"]["nodeSelector"] == {"zone": "a"}


def test_a_queue_is_a_label(tmp_path: Path) -> None:
    path = tmp_path / "profiles.yaml"
    path.write_text("profiles: [{name: a, kueue_queue: training, price_per_hour: 1.25}]")
    pod = _pod(profiles_file=str(path))
    kubernetes_validate.validate(pod, "1.33", strict=True)
    assert pod["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "training"
    variables = {v["name"]: v.get("value") for v in pod["spec"]["containers"][0]["env"]}
    assert variables["RAGWORKS_GPU_PRICE_PER_HOUR"] == "1.25"


@pytest.mark.parametrize(
    ("artifacts", "mounts", "good"),
    [
        ("file:///srv/artifacts", {}, False),
        ("/srv/artifacts", {}, False),
        ("file:///var/lib/ragworks/artifacts", {}, False),  # mounted, and gone with the pod
        ("file:///srv/artifacts", {"/srv": True}, True),
        ("gs://bucket/models", {}, True),
        ("s3://key:secret@bucket/models", {}, False),
    ],
)
def test_artifacts_must_outlive_the_pod(artifacts: str, mounts: dict[str, bool], good: bool) -> None:
    from kubernetes.client import models as k8s

    claim = k8s.V1PersistentVolumeClaimVolumeSource(claim_name="artifacts")
    extra = {
        "volumes": [k8s.V1Volume(name="artifacts", persistent_volume_claim=claim) for _ in mounts],
        "volume_mounts": [k8s.V1VolumeMount(name="artifacts", mount_path=path) for path in mounts],
    }
    settings = SETTINGS.model_copy(update={"artifacts": artifacts})
    if good:
        kubernetes_validate.validate(_pod(settings=settings, pod_arguments=extra), "1.33", strict=True)
        return
    with pytest.raises(BadConfiguration, match="RAGWORKS_ARTIFACTS") as error:
        _pod(settings=settings, pod_arguments=extra)
    assert "key:secret" not in str(error.value)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"family": "chunker"}, "family 'chunker'.*reranker, embedder, llm"),
        ({"family": "reranker", "step": "deploy"}, "step 'deploy'.*train, .*evaluate"),
        ({"family": "reranker", "gpus": "many"}, "gpus 'many'.*1 to 64"),
        ({"family": "reranker", "profiles_file": "nowhere.yaml"}, "nowhere.yaml: not readable"),
    ],
)
def test_impossible_arguments_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(BadConfiguration, match=message):
        GpuTaskOperator(task_id="train", **arguments).pod_operator(SETTINGS)
