"""MuJoCo's own WebAssembly build: one pinned version of the npm package `@mujoco/mujoco`, fetched once and checked.

It is kept as the registry serves it, in `cache_file()`, and is no part of the repository or of an installation.
"""

from __future__ import annotations

import gzip
import hashlib
import http.client
import os
import tarfile
import urllib.request
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

from motions.base.atomic import atomic_write
from motions.base.errors import UserError

VERSION = "3.14.0"
PACKAGE = f"mujoco-{VERSION}.tgz"
URL = f"https://registry.npmjs.org/@mujoco/mujoco/-/{PACKAGE}"
SHA512 = (
    "58f51889dbb8171f3eb8ce2142ff3448e03489fa561abb0d260b8ab3c24157c4"
    "824f18ca436febaac87cf349d41f4fd5c1af2fb9e7e086f090924a1e7776e452"
)
LICENSE = "Apache License 2.0, https://www.apache.org/licenses/LICENSE-2.0"
TIMEOUT_S = 60.0


@dataclass(frozen=True, slots=True)
class MujocoWasm:
    """The single-threaded build."""

    script: str
    """JavaScript module that exports `loadMujoco`."""
    binary: bytes
    """The WebAssembly module, gzipped."""


def cache_file() -> Path:
    """Where the package is kept: `kinetune` in `XDG_CACHE_HOME`, by default in `~/.cache`."""
    root = os.environ.get("XDG_CACHE_HOME")
    return (Path(root) if root else Path.home() / ".cache") / "kinetune" / PACKAGE


def check_mujoco_wasm(path: Path | None) -> str:
    """Where the package would come from, in words, without fetching it.

    Raises:
        UserError: the file at `path`, or the one that was fetched before, is not the package.
    """
    file = path or cache_file()
    if path is None and not file.is_file():
        return f"{URL}, to be fetched into {file}"
    _checked(_read(file), str(file))
    return str(file)


def load_mujoco_wasm(path: Path | None) -> MujocoWasm:
    """The build of the package at `path`; by default of the one in the cache, which is fetched if it is not there.

    Raises:
        UserError: the package cannot be read or fetched, or is not the one that is pinned here.
    """
    file = path or cache_file()
    if path is None and not file.is_file():
        _fetch(file)
    content = _checked(_read(file), str(file))
    with tarfile.open(fileobj=BytesIO(content), mode="r:gz") as archive:
        script, binary = (_member(archive, f"package/mujoco.{ending}") for ending in ("js", "wasm"))
    return MujocoWasm(script.decode("utf-8"), gzip.compress(binary, mtime=0))


def _member(archive: tarfile.TarFile, name: str) -> bytes:
    opened = archive.extractfile(name)
    assert opened is not None, "a checked package has its files"
    return opened.read()


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise UserError(f"mujoco_wasm {file}: {error.strerror}; it is the file {URL}") from error


def _checked(content: bytes, place: str) -> bytes:
    found = hashlib.sha512(content).hexdigest()
    if found != SHA512:
        raise UserError(f"{place} has sha512 {found[:16]}..., not {SHA512[:16]}... of {URL}; fetch that file again")
    return content


def _fetch(file: Path) -> None:
    try:
        with urllib.request.urlopen(URL, timeout=TIMEOUT_S) as answer:
            content = answer.read()
    except (OSError, http.client.HTTPException) as error:
        raise UserError(
            f"MuJoCo's WebAssembly build cannot be fetched ({error}); fetch {URL} on another machine and name the file "
            f"with --mujoco_wasm, or copy it to {file}"
        ) from error
    _checked(content, URL)
    file.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(file) as opened:
        opened.write(content)
