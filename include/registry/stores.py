"""The place that RAGWORKS_ARTIFACTS names: a folder here or an object store, with folders that appear whole or not at all."""

from __future__ import annotations

import errno
import os
import re
import shutil
import uuid
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from fsspec.asyn import AsyncFileSystem  # type: ignore[import-untyped, unused-ignore]
from fsspec.core import url_to_fs  # type: ignore[import-untyped, unused-ignore]

from include.errors import BadConfiguration, RagworksError, ServiceUnavailable, Transient

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from include.config import Settings

MANIFEST = "ragworks.json"  # written last: a folder without it was never finished
STAGING = ".staging"  # folders that are still being written
TURNS = 10  # at publishing, where several processes publish the same folder at once
FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_NO_CREDENTIALS = {"NoCredentialsError", "PartialCredentialsError", "ProfileNotFound", "CredentialRetrievalError"}  # botocore's


class Store(Protocol):
    """Folders by their path below the root; ``where`` has slashes and no ``..``.

    Every method raises Transient when the store is full, ServiceUnavailable when it does not answer, and BadConfiguration
    when it is not there or does not let this user in.
    """

    url: str

    def staging(self, name: str) -> Path:
        """An empty folder on this machine in which something for the store is prepared; what was in it is removed."""
        ...

    def publish(self, folder: Path, where: str, manifest: bytes) -> None:
        """Move a folder into the store; readers see it with ``manifest``, or not at all. The folder is gone afterwards."""
        ...

    def names(self, where: str) -> list[str]:
        """What lies directly in a folder, sorted; nothing when it is not there."""
        ...

    def read(self, path: str) -> bytes | None:
        """A small file, None when it is not there."""
        ...

    def place(self, where: str) -> Path | None:
        """The folder itself when it is on this machine, None when it has to be fetched."""
        ...

    def fetch(self, where: str, files: Sequence[str], target: Path) -> None:
        """Copy files of a folder into ``target``, which exists."""
        ...

    def remove(self, where: str) -> None:
        """Remove a folder, its manifest first; nothing happens when it is not there."""
        ...


def open_store(settings: Settings) -> Store:
    """The store of these settings; nothing is read yet.

    :raises BadConfiguration: the URL's protocol is unknown or its package is not installed.
    """
    url = artifacts_url(settings)
    shown = shown_url(url)
    try:
        fs, root = url_to_fs(url)
    except (ImportError, ValueError, TypeError) as error:
        raise BadConfiguration(f"RAGWORKS_ARTIFACTS {shown}", str(error), "Correct it, or install that package") from error
    if "file" in (fs.protocol if isinstance(fs.protocol, tuple | list) else (fs.protocol,)):
        return LocalStore(Path(root), shown)
    return RemoteStore(fs, str(root).rstrip("/"), shown, settings.home)


def artifacts_url(settings: Settings) -> str:
    """Of the store, with the credentials that it may hold: to open it, and not to be shown."""
    return (settings.artifacts or (settings.home / "artifacts").absolute().as_uri()).rstrip("/")


def shown_url(url: str) -> str:
    """A URL of the store as people and other services may see it: without the credentials that it may hold."""
    return re.sub(r"//[^/@\s]*@", "//", url)


def write_page(path: str, text: str) -> str:
    """Write a page for people.

    :param path: a file, or any fsspec URL.
    :return: where it lies, without the credentials of the URL.
    :raises BadConfiguration: it cannot be written there.
    :raises Transient: the store is full, or does not answer.
    """
    import fsspec

    shown = shown_url(path)
    try:
        opened = fsspec.open(path, "w", encoding="utf-8", auto_mkdir=True)
    except (ImportError, ValueError) as error:
        raise BadConfiguration(f"the page {shown}", str(error), "Name a file, or a URL of a store that is installed") from error
    with translated(shown), opened as file:
        file.write(text)
    return shown


class LocalStore:
    """A folder of this machine, or one mounted here: a rename makes a folder appear whole."""

    def __init__(self, root: Path, url: str) -> None:
        self._root, self.url = root, url

    def staging(self, name: str) -> Path:
        """Beside the others, so that publishing is a rename."""
        folder = self._root / STAGING / name
        with translated(self.url):
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
        return folder

    def publish(self, folder: Path, where: str, manifest: bytes) -> None:
        """By renames; of two processes with the same folder one wins and the other's is dropped."""
        target = self._root / where
        with translated(self.url):
            (folder / MANIFEST).write_bytes(manifest)
            target.parent.mkdir(parents=True, exist_ok=True)
            for turn in range(1, TURNS + 1):
                self._set_aside(target)
                try:
                    shutil.move(folder, target) if _apart(folder, target.parent) else folder.rename(target)
                    return
                except OSError as error:  # another process was quicker, and a third may have set aside what that one published
                    if error.errno not in (errno.ENOTEMPTY, errno.EEXIST) or turn == TURNS:
                        raise
                if self.read(f"{where}/{MANIFEST}") == manifest:
                    shutil.rmtree(folder)
                    return

    def names(self, where: str) -> list[str]:
        """Of files and folders."""
        with translated(self.url):
            folder = self._root / where
            return sorted(entry.name for entry in folder.iterdir()) if folder.is_dir() else []

    def read(self, path: str) -> bytes | None:
        """Its bytes."""
        with translated(self.url):
            try:
                return (self._root / path).read_bytes()
            except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
                return None

    def place(self, where: str) -> Path | None:
        """The folder itself."""
        return self._root / where

    def fetch(self, where: str, files: Sequence[str], target: Path) -> None:
        """Copies."""
        with translated(self.url):
            for name in files:
                (target / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(self._root / where / name, target / name)

    def remove(self, where: str) -> None:
        """Set aside first, so that nobody reads half of it."""
        with translated(self.url):
            self._set_aside(self._root / where)

    def _set_aside(self, folder: Path) -> None:
        if not folder.is_dir():
            return
        aside = self._root / STAGING / f"removed-{uuid.uuid4().hex}"
        aside.parent.mkdir(parents=True, exist_ok=True)
        with suppress(FileNotFoundError):  # another process set it aside meanwhile
            folder.rename(aside)
            shutil.rmtree(aside)


class RemoteStore:
    """An object store: files first, the manifest last, since nothing there can be renamed at once."""

    def __init__(self, fs: Any, root: str, url: str, home: Path) -> None:
        self._fs, self._root, self.url, self._home = fs, root, url, home

    def staging(self, name: str) -> Path:
        """Below RAGWORKS_HOME."""
        folder = self._home / "staging" / name
        with translated(str(self._home)):
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
        return folder

    def publish(self, folder: Path, where: str, manifest: bytes) -> None:
        """Uploads; the size of each file is asked for again, the hashes are compared by whoever reads it."""
        with translated(self.url):
            known = self.read(f"{where}/{MANIFEST}")
            if known not in (None, manifest):  # with the same one the same files are written: nobody sees a mixture
                self._fs.rm_file(self._path(f"{where}/{MANIFEST}"))
            for file in sorted(path for path in folder.rglob("*") if path.is_file() and path.name != MANIFEST):
                self._upload(file, f"{where}/{file.relative_to(folder).as_posix()}")
            self._fs.pipe_file(self._path(f"{where}/{MANIFEST}"), manifest)
        shutil.rmtree(folder)

    def names(self, where: str) -> list[str]:
        """Of objects and of what ends in a slash."""
        with translated(self.url):
            self._fs.invalidate_cache()
            try:
                found = self._fs.ls(self._path(where), detail=False)
            except FileNotFoundError:
                return []
        return sorted({str(name).rstrip("/").rsplit("/", 1)[-1] for name in found} - {""})

    def read(self, path: str) -> bytes | None:
        """Its bytes."""
        with translated(self.url):
            try:
                return bytes(self._fs.cat_file(self._path(path)))
            except FileNotFoundError:
                return None

    def place(self, where: str) -> Path | None:
        """Never here."""
        return None

    def fetch(self, where: str, files: Sequence[str], target: Path) -> None:
        """Downloads."""
        with translated(self.url):
            for name in files:
                (target / name).parent.mkdir(parents=True, exist_ok=True)
                self._fs.get_file(self._path(f"{where}/{name}"), str(target / name))

    def remove(self, where: str) -> None:
        """The manifest first, so that nobody takes the rest for a whole folder."""
        with translated(self.url):
            try:
                self._fs.rm_file(self._path(f"{where}/{MANIFEST}"))
                self._fs.invalidate_cache()
            except FileNotFoundError:
                pass  # it was never finished, or somebody else removes it
            try:
                self._fs.rm(self._path(where), recursive=True)
            except FileNotFoundError:
                return

    def _upload(self, file: Path, path: str) -> None:
        if not isinstance(self._fs, AsyncFileSystem):  # memory and SFTP have folders; S3 would make a bucket that is missing
            self._fs.makedirs(self._path(path).rsplit("/", 1)[0], exist_ok=True)
        self._fs.put_file(str(file), self._path(path))
        size = self._fs.info(self._path(path)).get("size")
        if size != file.stat().st_size:
            raise Transient(f"{self.url} kept {size} of {file.stat().st_size} bytes of {path}", "", "Try again")

    def _path(self, where: str) -> str:
        return f"{self._root}/{where}"


@contextmanager
def translated(url: str) -> Iterator[None]:
    """What a store's exceptions mean for a person."""
    try:
        yield
    except RagworksError:
        raise
    except Exception as error:  # every store has its own family of exceptions
        raise _meaning(error, url) from error


def _meaning(error: Exception, url: str) -> RagworksError:
    reason = re.sub(r"//[^/@\s]*@", "//", " ".join(f"{type(error).__name__} {error}".split())[:300])
    code = getattr(error, "errno", None)
    if code in FULL:
        return Transient(f"{url} is full", reason, "Free some space, then run it again: what is finished is kept")
    if isinstance(error, PermissionError) or code == errno.EROFS or type(error).__name__ in _NO_CREDENTIALS:
        fix = "Let this user write there, or correct the credentials or RAGWORKS_ARTIFACTS"
        return BadConfiguration(f"{url} cannot be used", reason, fix)
    if isinstance(error, FileNotFoundError | NotADirectoryError | FileExistsError):
        return BadConfiguration(f"{url} is not there", reason, "Create the bucket or folder, or correct RAGWORKS_ARTIFACTS")
    return ServiceUnavailable(f"{url} does not answer", reason, "Check the network and the store, then try again")


def _apart(one: Path, other: Path) -> bool:
    return os.stat(one).st_dev != os.stat(other).st_dev
