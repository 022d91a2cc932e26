"""Fetching a published file into a folder, whole and checked or not at all."""

from __future__ import annotations

import gzip
import hashlib
import http.client
import os
import sys
import urllib.error
import urllib.request
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import ModuleType
from typing import BinaryIO, NamedTuple

from tqdm import tqdm

from ..version import __version__

fcntl: ModuleType | None
try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

TIMEOUT = 10.0
"""Seconds without a byte after which a mirror is given up."""

_ATTEMPTS = 3
_CHUNK = 1 << 16


class DownloadError(RuntimeError):
    """A file could not be fetched; the message lists what was tried, and how each attempt failed."""


class Resource(NamedTuple):
    """A published gzip file.

    Attributes:
        name: of the file, which is also the end of its URL.
        md5: of the file.
        sha256: of what is in it; not checked if empty.
    """

    name: str
    md5: str
    sha256: str = ""

    def fault(self, path: Path) -> str:
        """What is wrong with a file; empty if it is the published one."""
        data = path.read_bytes()
        found = hashlib.md5(data, usedforsecurity=False).hexdigest()
        if found != self.md5:
            return f"checksum mismatch: expected MD5 {self.md5}, but the {len(data)} bytes received have {found}"
        if self.sha256:
            try:
                found = hashlib.sha256(gzip.decompress(data)).hexdigest()
            except (OSError, EOFError, zlib.error) as error:
                return f"corrupt gzip file: {error}"
            if found != self.sha256:
                return f"checksum mismatch: expected SHA-256 {self.sha256} of the contents, but found {found}"
        return ""


def cache_folder() -> Path:
    """Where downloads are kept: ``gpugrad`` in XDG_CACHE_HOME, ~/.cache, or on Windows in LOCALAPPDATA."""
    if sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local"
    else:
        base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "gpugrad"


def download(resource: Resource, mirrors: Sequence[str], folder: Path) -> Path:
    """Fetch a file, unless the folder has it, from the first mirror that gives it.

    It is received into ``<name>.part``, which a later call resumes, then checked, flushed to the
    disk and renamed.

    Raises:
        DownloadError: no mirror gave the right file, or it could not be written.
    """
    path, part = folder / resource.name, folder / f"{resource.name}.part"
    tried: list[str] = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with _locked(folder):
            if path.exists():
                return path
            with open(part, "ab") as out:
                complete = any(_from_mirror(mirror, resource, out, tried) for mirror in mirrors)
                if complete:
                    os.fsync(out.fileno())
                empty = not _size(out)
            if complete:
                os.replace(part, path)
                return path
            if empty:
                part.unlink()
    except OSError as error:
        with suppress(OSError):
            part.unlink()
        raise DownloadError(f"could not write {part}: {error}") from error
    raise DownloadError(f"could not download {resource.name}; tried\n  " + "\n  ".join(tried))


class _Broken(Exception):
    """A mirror failed."""


@contextmanager
def _network() -> Iterator[None]:
    # An OSError of the network is the mirror's failure; one of the disk is not.
    try:
        yield
    except urllib.error.HTTPError as error:
        error.close()
        raise _Broken(f"HTTP status {error.code} ({error.reason})") from None
    except (OSError, http.client.HTTPException) as error:
        raise _Broken(str(error) or type(error).__name__) from None


def _from_mirror(mirror: str, resource: Resource, out: BinaryIO, tried: list[str]) -> bool:
    """Whether the mirror gave the right file; a connection that breaks off is taken up again."""
    url = mirror.rstrip("/") + "/" + resource.name
    for _ in range(_ATTEMPTS):
        before = _size(out)
        try:
            _receive(url, resource.name, out)
        except _Broken as error:
            tried.append(f"{url}: {error}")
            if _size(out) == before:
                return False
            continue
        _size(out)
        fault = resource.fault(Path(out.name))
        if not fault:
            return True
        tried.append(f"{url}: {fault}")
        out.truncate(0)
        if not before:
            return False
    return False


def _receive(url: str, name: str, out: BinaryIO) -> None:
    """Append what a URL gives from the file's size on."""
    have = _size(out)
    headers = {"User-Agent": f"gpugrad/{__version__}"}
    if have:
        headers["Range"] = f"bytes={have}-"
    with _network():
        try:
            response = urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=TIMEOUT)
        except urllib.error.HTTPError as error:
            if error.code != 416:  # there is nothing beyond what we have
                raise
            error.close()
            return
    with response:
        if response.status != 206 or not response.headers.get("Content-Range", "").startswith(f"bytes {have}-"):
            out.truncate(0)
            have = 0
        length = response.headers.get("Content-Length")
        expected = have + int(length) if length else None
        # Without a terminal there is no bar.
        with tqdm(total=expected, initial=have, desc=name, unit="B", unit_scale=True, leave=False, disable=None) as bar:
            while True:
                with _network():
                    chunk = response.read(_CHUNK)
                if not chunk:
                    break
                out.write(chunk)
                bar.update(len(chunk))
    found = _size(out)
    if expected is not None and found < expected:
        raise _Broken(f"the connection ended after {found} of {expected} bytes")


def _size(out: BinaryIO) -> int:
    out.flush()
    return os.fstat(out.fileno()).st_size


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Wait for other processes that download into the folder, where the system can."""
    if fcntl is None:
        yield
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
