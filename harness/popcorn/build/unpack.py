# SPDX-License-Identifier: Apache-2.0
"""Kernel sources as streams of files: out of a tarball, a Debian package or a directory."""

from __future__ import annotations

import bz2
import gzip
import lzma
import os
import stat
import tarfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, cast

from popcorn.build.git import TreeEntry, git
from popcorn.errors import UserError

Told = Callable[[str], None]
_TELL_EVERY = 1000
_ARCHIVES = (".tar", ".tar.xz", ".tar.gz", ".tgz", ".tar.bz2")


def archive_entries(archive: Path, told: Told) -> Iterator[TreeEntry]:
    """The files of a kernel tarball, or of the one inside a linux-source .deb, without their top directory.

    `told` gets the count now and then. Raises UserError for what is no such archive, or a truncated one.
    """
    try:
        with archive.open("rb") as stream:
            if archive.suffix == ".deb":
                yield from _tar_entries(_tarball_in_deb(stream, archive), told)
            elif archive.name.endswith(_ARCHIVES):
                yield from _tar_entries(stream, told)
            else:
                raise UserError(
                    f"{archive} is no kernel source that can be read",
                    hint=f"--source takes a directory, a tarball ({' '.join(_ARCHIVES)}), or a linux-source .deb",
                )
    except (tarfile.TarError, lzma.LZMAError, EOFError, zlib.error) as error:
        raise UserError(f"{archive} is truncated or damaged: {error}", hint="get it again") from error


def tree_files(tree: Path) -> list[tuple[str, os.stat_result]]:
    """Every source file of a directory with its status, sorted by name.

    In a git work tree these are the files that git knows or would add, as they lie there; elsewhere all of them.
    Raises UserError when the tree has been built in.
    """
    top = git("rev-parse", "--show-toplevel", cwd=tree, check=False)
    if top.returncode == 0 and Path(top.stdout.strip()) == tree.resolve():
        listed = git("ls-files", "-z", "--cached", "--others", "--exclude-standard", cwd=tree).stdout_bytes
        names = sorted({os.fsdecode(name) for name in listed.split(b"\0") if name})
    else:
        if (tree / ".config").exists() or (tree / "include" / "config").exists():
            raise UserError(f"the kernel tree {tree} has been built in", hint=f"clean it: make -C {tree} mrproper")
        names = sorted(
            os.path.relpath(os.path.join(directory, name), tree)
            for directory, _, files in os.walk(tree)
            for name in files
        )
    found = []
    for name in names:
        try:
            status = os.lstat(os.path.join(tree, name))
        except FileNotFoundError:
            continue
        if stat.S_ISREG(status.st_mode) or stat.S_ISLNK(status.st_mode):
            found.append((name, status))
    return found


def tree_entries(tree: Path, files: list[tuple[str, os.stat_result]], told: Told) -> Iterator[TreeEntry]:
    """The content of the files that `tree_files` found."""
    for count, (name, status) in enumerate(files, 1):
        path = tree / name
        if stat.S_ISLNK(status.st_mode):
            yield TreeEntry("120000", name, os.fsencode(path.readlink()))
        else:
            yield TreeEntry(_mode(status.st_mode), name, path.read_bytes())
        if count % _TELL_EVERY == 0:
            told(f"{count} of {len(files)} files")


@contextmanager
def decompressed(path: Path) -> Iterator[IO[bytes]]:
    """A file's content, whether it is compressed (xz, gzip, bzip2) or not."""
    with path.open("rb") as stream:
        yield _decompressed(stream)


def _tar_entries(stream: IO[bytes], told: Told) -> Iterator[TreeEntry]:
    with tarfile.open(fileobj=_decompressed(stream), mode="r:") as archive:
        count = 0
        for member in archive:
            archive.members = []  # type: ignore[attr-defined]  # tarfile would keep them all
            name = member.name.removeprefix("./").partition("/")[2]
            if not name or ".." in name.split("/"):
                continue
            if member.isreg():
                content = archive.extractfile(member)
                assert content is not None
                yield TreeEntry(_mode(member.mode), name, content.read())
            elif member.issym():
                yield TreeEntry("120000", name, member.linkname.encode())
            else:
                continue
            count += 1
            if count % _TELL_EVERY == 0:
                told(f"{count} files")
        if count == 0:
            raise UserError("the archive holds no files below one top directory")


def _tarball_in_deb(stream: IO[bytes], package: Path) -> IO[bytes]:
    """The linux-source tarball inside a Debian package, as a stream (an `ar` archive with a tarball in it)."""
    if stream.read(8) != b"!<arch>\n":
        raise UserError(f"{package} is no Debian package", hint="get it again")
    while header := stream.read(60):
        name, size = header[:16].decode(errors="replace").strip().rstrip("/"), int(header[48:58])
        if name.startswith("data.tar"):
            outer = tarfile.open(fileobj=_decompressed(stream), mode="r:")  # noqa: SIM115 - lives with the stream
            for member in outer:
                if "/usr/src/linux-source" in member.name and member.name.endswith(".tar.xz"):
                    content = outer.extractfile(member)
                    assert content is not None
                    return content
            break
        stream.seek(size + size % 2, os.SEEK_CUR)
    raise UserError(
        f"{package} holds no kernel source",
        hint="Debian's package is linux-source-VERSION; its tarball lies in /usr/src of the package",
    )


def _decompressed(stream: IO[bytes]) -> IO[bytes]:
    # tarfile's own stream mode ("r|*") is slower by a factor of four.
    start = stream.read(6)
    stream.seek(-len(start), os.SEEK_CUR)
    if start.startswith(b"\xfd7zXZ"):
        return cast(IO[bytes], lzma.LZMAFile(stream))
    if start.startswith(b"\x1f\x8b"):
        return cast(IO[bytes], gzip.GzipFile(fileobj=stream))
    if start.startswith(b"BZh"):
        return cast(IO[bytes], bz2.BZ2File(stream))
    return stream


def _mode(mode: int) -> str:
    return "100755" if mode & stat.S_IXUSR else "100644"
