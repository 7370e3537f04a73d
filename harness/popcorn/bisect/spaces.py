# SPDX-License-Identifier: Apache-2.0
"""What is searched, as a history for git: patches and commits are one already, the others become one.

An ordered list of options or parameters is written as a straight line of commits, each holding one more of them: so
that all searches are one, with the same journal, skips and confirmation. What the line ends with is the one that, after
those before it, brings the failure.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from popcorn.build.git import git, output, resolve
from popcorn.build.series import patch_names, unnumbered
from popcorn.errors import UserError
from popcorn.files import sha256_bytes, write_atomic

LIST_FILE = "list"
PARAMETERS = ("machine", "policy", "memory", "size", "device", "append", "qemu")


def bare_repository(path: Path, *alternates: Path) -> Path:
    """A bare repository at `path` that sees the objects of others, made if it is not there."""
    if not (path / "HEAD").is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        git("init", "--quiet", "--bare", path, cwd=path.parent)
        git("config", "gc.auto", "0", cwd=path)
        # Object directories lie inside the work trees: see build/workspace.py.
        (path / "info" / "exclude").write_text("/obj-*/\n")
    stores = [output("rev-parse", "--path-format=absolute", "--git-path", "objects", cwd=one) for one in alternates]
    write_atomic(path / "objects" / "info" / "alternates", "".join(f"{store}\n" for store in stores))
    for one in alternates:
        shallow = Path(output("rev-parse", "--path-format=absolute", "--git-path", "shallow", cwd=one))
        if shallow.is_file():
            write_atomic(path / "shallow", shallow.read_bytes())
    return path


def patch_files(folder: Path) -> list[Path]:
    """The patches of a folder: those its `series` file lists, else all by name. Raises UserError for none."""
    if not folder.is_dir():
        raise UserError(f"there is no folder {folder}", hint="--patches takes a folder with git format-patch files")
    if (folder / "series").is_file():
        return [folder / name for name in patch_names(folder / "series")]
    found = sorted(folder.glob("*.patch"))
    if not found:
        raise UserError(f"{folder} holds no *.patch", hint="--patches takes a folder with git format-patch files")
    return found


def position(text: str | None, names: Sequence[str], default: int, what: str) -> int:
    """Which place in an ordered list an end names: its number (0 is before the first), or the name of an entry.

    Raises:
        UserError: it names none, or several.
    """
    if text is None:
        return default
    if text.isdecimal() and int(text) <= len(names):
        return int(text)
    exact = [number for number, name in enumerate(names, 1) if text in (name, unnumbered(name))]
    found = exact or [number for number, name in enumerate(names, 1) if text in name]
    if len(found) == 1:
        return found[0]
    raise UserError(
        f"{text!r} names {'no' if not found else 'more than one'} {what}",
        hint=f"write a number from 0 to {len(names)}, or a name: {', '.join(names[:3])}{' …' if names[3:] else ''}",
    )


def revision(tree: Path, text: str | None, end: str) -> str:
    """The commit that an end names in a git tree. Raises UserError for none."""
    if text is None:
        raise UserError(
            f"--{end} is missing", hint="with --tree, name both ends as git does: a tag, a branch, a commit"
        )
    if not tree.is_dir() or git("rev-parse", "--git-dir", cwd=tree, check=False).returncode:
        raise UserError(
            f"{tree} is no git tree", hint="--tree takes a folder with a git checkout, or a bare repository"
        )
    commit = resolve(tree, f"{text}^{{commit}}")
    if commit is None:
        raise UserError(f"{text!r} is no commit in {tree}", hint="name it as git does: a tag, a branch, a commit")
    return commit


def require_kernel(tree: Path, commit: str) -> None:
    """Raises UserError for a commit that holds no kernel."""
    missing = [
        name
        for name in ("Makefile", "Kconfig")
        if git("cat-file", "-e", f"{commit}:{name}", cwd=tree, check=False).returncode
    ]
    if missing:
        raise UserError(
            f"the commit {commit[:12]} in {tree} holds no kernel: it has no {' and no '.join(missing)}",
            hint="--tree takes a git tree of Linux",
        )


def tree_repository(tree: Path, linux: Path, folder: Path) -> Path:
    """A bare repository of our own that sees a user's tree and the cache's kernel sources; theirs stays as it is."""
    key = sha256_bytes(str(tree.resolve()).encode())[:16]
    return bare_repository(folder / f"tree-{key}.git", tree, linux)


def write_line(repository: Path, entries: Sequence[str]) -> list[str]:
    """Commits on a straight line: the first holds nothing, each further one one more entry of the list."""
    line: list[str] = []
    for number in range(len(entries) + 1):
        text = "".join(f"{entry}\n" for entry in entries[:number])
        blob = git("hash-object", "-w", "--stdin", cwd=repository, input=text).stdout.strip()
        tree = git("mktree", cwd=repository, input=f"100644 blob {blob}\t{LIST_FILE}\n").stdout.strip()
        parent = ("-p", line[-1]) if line else ()
        subject = entries[number - 1] if number else "nothing changed"
        dates = {"GIT_AUTHOR_DATE": "@0 +0000", "GIT_COMMITTER_DATE": f"@{number} +0000"}
        done = git("commit-tree", tree, *parent, cwd=repository, input=subject, env=dates)
        line.append(done.stdout.strip())
    return line


def entries_at(repository: Path, commit: str) -> list[str]:
    """What a commit of such a line holds."""
    return git("show", f"{commit}:{LIST_FILE}", cwd=repository).stdout.splitlines()


def parameter(text: str) -> tuple[str, str]:
    """Name and value of a parameter. Raises UserError."""
    name, equals, value = text.partition("=")
    if not equals or name not in PARAMETERS or not value or re.search(r"[\r\n]", value):
        raise UserError(f"{text!r} is no parameter", hint=f"write NAME=VALUE, NAME one of {', '.join(PARAMETERS)}")
    return name, value


def with_parameters(words: Mapping[str, object], parameters: Sequence[str]) -> dict[str, object]:
    """What a plan is made of (the fields of `PlanWords`), changed by parameters, the later ones last."""
    changed = dict(words)
    several = {"size": "sizes", "device": "devices", "qemu": "qemu"}
    for text in parameters:
        name, value = parameter(text)
        if name in several:
            before = changed.get(several[name], ())
            assert isinstance(before, tuple | list)
            changed[several[name]] = (*before, value)
        elif name == "append":
            changed[name] = f"{changed.get(name, '')} {value}".strip()
        else:
            changed[name] = value
    return changed
