# SPDX-License-Identifier: Apache-2.0
"""git, undisturbed by the user's configuration, and one bare repository for all kernel sources of the cache."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from popcorn.build.store import locked
from popcorn.dirs import cache_dir
from popcorn.errors import HostError
from popcorn.process import Completed, dying_with_parent, run

IDENTITY = "Popcorn <popcorn@localhost>"
_EPOCH = "0 +0000"


@dataclass(frozen=True)
class TreeEntry:
    """One file on its way into a commit: git's mode, path from the root, content (a link's target)."""

    mode: str
    path: str
    content: bytes


def git(
    *arguments: str | Path,
    cwd: Path,
    input: bytes | str | None = None,
    check: bool = True,
    env: dict[str, str] | None = None,
) -> Completed:
    """Run git in `cwd` (a work tree or a bare repository). Raises HostError when it fails and `check` is set."""
    return run(["git", *arguments], cwd=cwd, input=input, check=check, env=_environment() | (env or {}))


def output(*arguments: str | Path, cwd: Path) -> str:
    """What git prints, without the last newline."""
    return git(*arguments, cwd=cwd).stdout.rstrip("\n")


def linux_repository() -> Path:
    """The bare repository in the cache that holds every base tree and every applied series."""
    path = cache_dir() / "source" / "linux.git"
    if not (path / "HEAD").is_file():
        with repository_lock():
            if not (path / "HEAD").is_file():
                path.parent.mkdir(parents=True, exist_ok=True)
                fresh = path.with_name("linux.git.partial")
                shutil.rmtree(fresh, ignore_errors=True)
                git("init", "--quiet", "--bare", fresh, cwd=path.parent)
                # Nothing is ever thrown away behind our back, and speed counts more than size.
                for key, value in (("gc.auto", "0"), ("core.compression", "1"), ("core.logAllRefUpdates", "false")):
                    git("config", key, value, cwd=fresh)
                # Object directories lie inside the work trees: see workspace.py.
                (fresh / "info" / "exclude").write_text("/obj-*/\n")
                fresh.rename(path)
    return path


@contextmanager
def repository_lock() -> Iterator[None]:
    """Hold while adding to the repository or to its list of work trees."""
    with locked("linux-git", "another popcorn's use of the kernel sources"):
        yield


def resolve(repository: Path, name: str) -> str | None:
    """The object id that a ref or revision stands for, or None."""
    done = git("rev-parse", "--verify", "--quiet", name, cwd=repository, check=False)
    return done.stdout.strip() if done.returncode == 0 else None


def import_tree(repository: Path, entries: Iterable[TreeEntry], message: str) -> str:
    """Commit a whole tree without a parent and without a work tree; returns the commit's id.

    Author, committer and dates are fixed, so that the same tree and message always give the same commit.
    """
    for leftover in (repository / "objects" / "pack").glob("tmp_*"):
        leftover.unlink(missing_ok=True)
    mark = "refs/popcorn/importing"
    process = subprocess.Popen(
        dying_with_parent(["git", "fast-import", "--quiet", "--done", "--force", "--depth=0"]),
        cwd=repository,
        env=_environment(),
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdin is not None
    assert process.stderr is not None
    text = message.encode()
    try:
        write = process.stdin.write
        write(f"feature done\nreset {mark}\ncommit {mark}\n".encode())
        write(f"author {IDENTITY} {_EPOCH}\ncommitter {IDENTITY} {_EPOCH}\ndata {len(text)}\n".encode() + text)
        for entry in entries:
            write(f"M {entry.mode} inline {entry.path}\ndata {len(entry.content)}\n".encode())
            write(entry.content)
            write(b"\n")
        write(b"done\n")
        process.stdin.close()
    except BrokenPipeError:
        pass
    except BaseException:
        process.kill()
        raise
    finally:
        said = process.stderr.read().decode(errors="replace")
        status = process.wait()
        for pipe in (process.stdin, process.stderr):
            # What was not written has no reader any more.
            with suppress(BrokenPipeError):
                pipe.close()
    if status != 0:
        if "No space left" in said:
            raise OSError(28, "No space left on device", str(repository))
        raise HostError(f"git fast-import ended with status {status}: {said.strip()[:500]}")
    commit = output("rev-parse", mark, cwd=repository)
    git("update-ref", "-d", mark, cwd=repository)
    return commit


class ScratchIndex:
    """An index of its own in the repository, without a work tree; made by `scratch_index`."""

    def __init__(self, repository: Path, file: Path) -> None:
        self.repository = repository
        self._env = {"GIT_INDEX_FILE": str(file)}

    def git(self, *arguments: str | Path, input: bytes | str | None = None, check: bool = True) -> Completed:
        """As `git`, on this index."""
        return git(*arguments, cwd=self.repository, input=input, check=check, env=self._env)

    def commit(self, message: str, *, parent: str | None) -> str:
        """Commit what the index holds; the same content, message and parent always give the same commit."""
        tree = self.git("write-tree").stdout.strip()
        onto = ("-p", parent) if parent is not None else ()
        dates = {"GIT_AUTHOR_DATE": f"@{_EPOCH}", "GIT_COMMITTER_DATE": f"@{_EPOCH}"}
        done = git("commit-tree", tree, *onto, cwd=self.repository, input=message, env=dates)
        return done.stdout.strip()


@contextmanager
def scratch_index(repository: Path, commit: str | None = None) -> Iterator[ScratchIndex]:
    """An index that holds the tree of a commit, or nothing; gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="index-", dir=repository) as folder:
        index = ScratchIndex(repository, Path(folder, "index"))
        index.git("read-tree", commit if commit is not None else "--empty")
        yield index


def _environment() -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    name, _, mail = IDENTITY.removesuffix(">").partition(" <")
    return kept | {
        "LC_ALL": "C",
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_AUTHOR_NAME": name,
        "GIT_AUTHOR_EMAIL": mail,
        "GIT_COMMITTER_NAME": name,
        "GIT_COMMITTER_EMAIL": mail,
    }
