"""Folders in the artifact store: whole or not at all, verified when used; on a disk, and on S3 over real HTTP (moto)."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import boto3
import pytest
import requests
from moto.server import ThreadedMotoServer
from s3fs import S3FileSystem

from include.config import Settings
from include.embedding import models
from include.embedding.local import LocalEmbedder
from include.errors import BadConfiguration, BadData, ServiceUnavailable, Transient
from include.registry.artifacts import local_model, model_path, read_manifest, save_folder
from include.registry.stores import MANIFEST, STAGING, LocalStore, open_store

if TYPE_CHECKING:
    from collections.abc import Iterator

WHERE = model_path("embedder", "handbook", "0123456789abcdef0123")


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    served = ThreadedMotoServer(port=0)
    served.start()
    yield f"http://127.0.0.1:{served.get_host_and_port()[1]}"
    served.stop()


@pytest.fixture
def s3(server: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    for name, value in {
        "AWS_ACCESS_KEY_ID": "k", "AWS_SECRET_ACCESS_KEY": "s", "AWS_ENDPOINT_URL": server, "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true", "AWS_CONFIG_FILE": "/nonexistent", "AWS_SHARED_CREDENTIALS_FILE": "/nonexistent",
    }.items():  # fmt: skip
        monkeypatch.setenv(name, value)
    requests.post(f"{server}/moto-api/reset", timeout=10).raise_for_status()
    S3FileSystem.clear_instance_cache()
    client = boto3.client("s3")
    client.create_bucket(Bucket="lake")
    return client


@pytest.fixture(params=["disk", "memory", "s3"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Settings:
    """Settings whose artifacts lie in each kind of store."""
    if request.param == "s3":
        request.getfixturevalue("s3")
    urls = {"disk": (tmp_path / "art ifacts").as_uri(), "memory": f"memory://{tmp_path}", "s3": "s3://lake/artifacts"}
    return Settings(home=tmp_path / "home", artifacts=urls[request.param])


def on_disk(tmp_path: Path) -> Settings:
    return Settings(home=tmp_path / "home", artifacts=(tmp_path / "artifacts").as_uri())


def made(folder: Path, **files: str) -> Path:
    for name, content in ({"a_txt": "one", "deep__b_txt": "two"} | files).items():
        path = folder / name.replace("__", "/").replace("_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return folder


def test_a_saved_folder_comes_back_whole(place: Settings, tmp_path: Path) -> None:
    folder = made(tmp_path / "model")
    name = save_folder(place, folder, WHERE, {"family": "embedder", "settings": {"rerank_weight": 0.4}})
    assert name == f"artifacts:{WHERE}"
    found = Path(local_model(name, place))
    assert (found / "a.txt").read_text() == "one"
    assert (found / "deep/b.txt").read_text() == "two"
    manifest = read_manifest(name, place)
    assert manifest["settings"] == {"rerank_weight": 0.4}
    assert set(manifest["files"]) == {"a.txt", "deep/b.txt"}
    assert made(folder) == folder  # what was saved is still where it was
    assert (folder / "a.txt").exists()


def test_other_names_are_passed_on(place: Settings) -> None:
    assert local_model("all-MiniLM-L6-v2", place) == "all-MiniLM-L6-v2"
    assert read_manifest("all-MiniLM-L6-v2", place) == {}


def test_the_same_content_again_changes_nothing(place: Settings, tmp_path: Path) -> None:
    folder = made(tmp_path / "model")
    save_folder(place, folder, WHERE, {"run_key": "first"})
    name = save_folder(place, folder, WHERE, {"run_key": "second"})
    assert read_manifest(name, place)["run_key"] == "first"
    assert open_store(place).names("models/embedder/handbook") == ["0123456789abcdef"]


def test_another_content_takes_its_place(place: Settings, tmp_path: Path) -> None:
    save_folder(place, made(tmp_path / "model", c_txt="three"), WHERE)
    name = save_folder(place, made(tmp_path / "other", a_txt="changed"), WHERE)
    found = Path(local_model(name, place))
    assert (found / "a.txt").read_text() == "changed"


def test_the_manifest_in_the_folder_counts(place: Settings, tmp_path: Path) -> None:
    folder = made(tmp_path / "model")
    (folder / MANIFEST).write_text(json.dumps({"kind": "forest", "files": {"old": "x"}}))
    manifest = read_manifest(save_folder(place, folder, WHERE), place)
    assert manifest["kind"] == "forest"
    assert set(manifest["files"]) == {"a.txt", "deep/b.txt"}


def test_the_manifest_is_no_part_of_the_fingerprint(tmp_path: Path) -> None:
    folder = made(tmp_path / "model")
    (folder / "config.json").write_text("{}")
    before = LocalEmbedder(str(folder)).fingerprint
    models.fingerprint.cache_clear()
    (folder / MANIFEST).write_text(json.dumps({"run_key": "x"}))
    assert LocalEmbedder(str(folder)).fingerprint == before


@pytest.mark.parametrize(
    "name", ["artifacts:", "artifacts:/etc", "artifacts:models/../../etc", "artifacts:a\\b", "artifacts:x"]
)
def test_what_is_not_there(place: Settings, name: str) -> None:
    with pytest.raises(BadConfiguration, match="artifact"):
        local_model(name, place)


def test_a_folder_without_its_manifest_was_never_finished(place: Settings, tmp_path: Path) -> None:
    name = save_folder(place, made(tmp_path / "model"), WHERE)
    _remove_manifest(place)
    with pytest.raises(BadData, match=r"incomplete: it has no ragworks\.json"):
        local_model(name, place)


def _remove_manifest(place: Settings) -> None:
    from fsspec.core import url_to_fs

    fs, root = url_to_fs(place.artifacts)
    fs.rm_file(f"{root}/{WHERE}/{MANIFEST}")


@pytest.mark.parametrize("what", ["changed", "removed", "added"])
def test_a_tampered_folder_is_refused(place: Settings, tmp_path: Path, what: str) -> None:
    from fsspec.core import url_to_fs

    name = save_folder(place, made(tmp_path / "model"), WHERE)
    fs, root = url_to_fs(place.artifacts)
    if what == "removed":
        fs.rm_file(f"{root}/{WHERE}/a.txt")
    elif what == "changed":
        fs.pipe_file(f"{root}/{WHERE}/a.txt", b"two")
    elif open_store(place).place(WHERE) is None:
        pytest.skip("a file that the manifest does not name is not fetched")
    else:
        fs.pipe_file(f"{root}/{WHERE}/model.bin", b"pickle")
    with pytest.raises((BadData, BadConfiguration)):
        local_model(name, place)
    saved = save_folder(place, tmp_path / "model", WHERE)  # and saving it again makes it good
    assert (Path(local_model(saved, place)) / "a.txt").read_text() == "one"


def test_a_tampered_copy_on_this_machine_is_refused(s3: Any, tmp_path: Path) -> None:
    settings = Settings(home=tmp_path / "home", artifacts="s3://lake/artifacts")
    name = save_folder(settings, made(tmp_path / "model"), WHERE)
    copy = Path(local_model(name, settings))
    assert copy.parent == settings.home / "models"
    (copy / "a.txt").write_text("two")
    with pytest.raises(BadData, match="changed"):
        _in_a_process_of_its_own(settings, name)


def test_a_copy_serves_when_the_store_is_away(s3: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = Settings(home=tmp_path / "home", artifacts="s3://lake/artifacts")
    name = save_folder(settings, made(tmp_path / "model"), WHERE, {"kind": "embedder"})
    local_model(name, settings)
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    S3FileSystem.clear_instance_cache()
    assert Path(_in_a_process_of_its_own(settings, name)).is_dir()
    assert read_manifest(name, settings)["kind"] == "embedder"


def _in_a_process_of_its_own(settings: Settings, name: str) -> str:
    from include.registry import artifacts

    artifacts._local_folder.cache_clear()
    return local_model(name, settings)


def test_a_damaged_manifest(place: Settings, tmp_path: Path) -> None:
    from fsspec.core import url_to_fs

    name = save_folder(place, made(tmp_path / "model"), WHERE)
    fs, root = url_to_fs(place.artifacts)
    for raw in (b"{", b'{"files": {"../../x": "y"}}', b"[]"):
        fs.pipe_file(f"{root}/{WHERE}/{MANIFEST}", raw)
        with pytest.raises(BadData, match="damaged"):
            local_model(name, place)


def test_many_at_once_make_one(tmp_path: Path) -> None:
    settings = on_disk(tmp_path)
    folder = made(tmp_path / "model", big_txt="x" * 2_000_000)
    failed: list[Exception] = []

    def save() -> None:
        try:
            save_folder(settings, folder, WHERE)
        except Exception as error:
            failed.append(error)

    threads = [threading.Thread(target=save) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    assert Path(local_model(f"artifacts:{WHERE}", settings)).is_dir()
    assert list((tmp_path / "artifacts" / STAGING).iterdir()) == []


def test_published_between_two_looks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another process is quicker, and a third sets its folder aside before this one has read what it says."""
    settings = on_disk(tmp_path)
    folder, other = made(tmp_path / "model"), made(tmp_path / "other")
    store = open_store(settings)
    original = LocalStore._set_aside
    turns: list[Path] = []

    def quicker(self: LocalStore, place: Path) -> None:
        original(self, place)
        turns.append(place)
        if len(turns) == 1:
            shutil.copytree(other, place)

    monkeypatch.setattr(LocalStore, "_set_aside", quicker)
    monkeypatch.setattr(LocalStore, "read", lambda self, path: None)
    staged = store.staging("mine")
    shutil.copytree(folder, staged, dirs_exist_ok=True)
    store.publish(staged, WHERE, b"{}")
    assert len(turns) == 2
    assert (tmp_path / "artifacts" / WHERE / "ragworks.json").read_bytes() == b"{}"
    assert list((tmp_path / "artifacts" / STAGING).iterdir()) == []
    monkeypatch.undo()
    assert store.read("nothing/here") is None
    assert store.read(WHERE) is None
    store.remove("nothing/here")


def test_many_fetch_at_once(s3: Any, tmp_path: Path) -> None:
    settings = Settings(home=tmp_path / "home", artifacts="s3://lake/artifacts")
    name = save_folder(settings, made(tmp_path / "model"), WHERE)
    code = "import sys; from include.config import Settings; from include.registry.artifacts import local_model as m;"
    code += "print(m(sys.argv[1], Settings.from_environment()))"
    environment = os.environ | {"RAGWORKS_HOME": str(settings.home), "RAGWORKS_ARTIFACTS": settings.artifacts}
    children = [
        subprocess.Popen([sys.executable, "-c", code, name], stdout=subprocess.PIPE, env=environment, text=True)
        for _ in range(3)
    ]
    assert len({child.communicate(timeout=60)[0] for child in children}) == 1
    assert [child.returncode for child in children] == [0, 0, 0]
    assert len(list((settings.home / "models").iterdir())) == 1


def test_a_full_store(tmp_path: Path) -> None:
    """A limit of file sizes is what a full disk looks like to a process."""
    folder = made(tmp_path / "model", big_txt="x" * 200_000)
    code = (
        "import resource, sys; from pathlib import Path; from include.config import Settings\n"
        "from include.errors import RagworksError; from include.registry.artifacts import save_folder\n"
        "settings = Settings.from_environment(); save_folder(settings, Path(sys.argv[1]) / 'deep', 'models/small')\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))\n"
        "try: save_folder(settings, Path(sys.argv[1]), sys.argv[2])\n"
        "except RagworksError as error: print(error); sys.exit(error.exit_code)\n"
    )
    settings = on_disk(tmp_path)
    environment = os.environ | {"RAGWORKS_HOME": str(settings.home), "RAGWORKS_ARTIFACTS": settings.artifacts}
    done = subprocess.run(
        [sys.executable, "-c", code, folder, WHERE], env=environment, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 75, done.stderr
    assert "is full" in done.stdout
    assert "Free some space" in done.stdout
    assert open_store(settings).names("models") == ["small"]
    assert list((tmp_path / "artifacts" / STAGING).iterdir()) == []


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_store_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "artifacts").mkdir(mode=0o500)
    with pytest.raises(BadConfiguration, match=r"cannot be used: PermissionError.*RAGWORKS_ARTIFACTS"):
        save_folder(on_disk(tmp_path), made(tmp_path / "model"), WHERE)


def test_a_store_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "artifacts").write_text("")
    with pytest.raises(BadConfiguration, match="RAGWORKS_ARTIFACTS"):
        save_folder(on_disk(tmp_path), made(tmp_path / "model"), WHERE)


def test_no_bucket(s3: Any, tmp_path: Path) -> None:
    settings = Settings(home=tmp_path / "home", artifacts="s3://nobody/artifacts")
    with pytest.raises(BadConfiguration, match="is not there"):
        save_folder(settings, made(tmp_path / "model"), WHERE)


def test_a_store_that_does_not_answer(s3: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    S3FileSystem.clear_instance_cache()
    with pytest.raises(ServiceUnavailable, match="does not answer"):
        save_folder(Settings(home=tmp_path / "home", artifacts="s3://lake/x"), made(tmp_path / "model"), WHERE)
    assert issubclass(ServiceUnavailable, Transient)


def test_unknown_protocol(tmp_path: Path) -> None:
    with pytest.raises(BadConfiguration, match="RAGWORKS_ARTIFACTS nowhere"):
        save_folder(Settings(home=tmp_path, artifacts="nowhere://x"), made(tmp_path / "model"), WHERE)
