# SPDX-License-Identifier: Apache-2.0
"""One series takes files from another, whose patches alone say what is in them."""

from __future__ import annotations

from pathlib import Path

import pytest

from popcorn.build import series as series_module
from popcorn.build.apply import apply_series
from popcorn.build.checkout import checkout, refresh
from popcorn.build.git import git, linux_repository, output
from popcorn.build.kernel import kernel_inputs
from popcorn.build.series import load_series
from popcorn.build.shared import shared_content
from popcorn.build.source import find_base
from popcorn.errors import UserError

HEAD = """\
From 0000000000000000000000000000000000000000 Mon Sep 17 00:00:00 2001
From: Somebody <somebody@example.org>
Date: Mon, 2 Jan 2023 03:04:05 +0100
Subject: [PATCH] {}

Because.
---
"""
ADDS = """\
diff --git a/kernel/popcorn/a.c b/kernel/popcorn/a.c
new file mode 100644
--- /dev/null
+++ b/kernel/popcorn/a.c
@@ -0,0 +1,2 @@
+first
+second
diff --git a/kernel/popcorn/b.c b/kernel/popcorn/b.c
new file mode 100644
--- /dev/null
+++ b/kernel/popcorn/b.c
@@ -0,0 +1 @@
+gone soon
"""
CHANGES = """\
diff --git a/init/main.c b/init/main.c
--- a/init/main.c
+++ b/init/main.c
@@ -1 +1 @@
-main
+hooked
diff --git a/kernel/popcorn/a.c b/kernel/popcorn/a.c
--- a/kernel/popcorn/a.c
+++ b/kernel/popcorn/a.c
@@ -1,2 +1,2 @@
 first
-second
+changed
diff --git a/kernel/popcorn/b.c b/kernel/popcorn/b.c
deleted file mode 100644
--- a/kernel/popcorn/b.c
+++ /dev/null
@@ -1 +0,0 @@
-gone soon
"""
RELEASE = f'[kernel_org]\nversion = "3.2.14"\nfiles = [{{ name = "linux-3.2.14.tar.xz", sha256 = "{"0" * 64}" }}]\n'


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project whose series 3.2 takes a folder from its series 6.12; returns the folder of all series."""
    monkeypatch.setattr(series_module, "source_root", lambda: tmp_path / "project")
    patches = tmp_path / "project" / "kernel-patches"
    donor(patches, ADDS, CHANGES)
    taker(patches, "kernel/popcorn")
    return patches


def donor(patches: Path, *diffs: str) -> None:
    folder = patches / "6.12"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "base.toml").write_text('version = "6.12"\ntested = "6.12.1"\ndebian = "linux-source-6.12"\n')
    names = [f"{number:04}-change.patch" for number in range(1, len(diffs) + 1)]
    for name, diff in zip(names, diffs, strict=True):
        (folder / name).write_text(HEAD.format("change") + diff)
    (folder / "series").write_text("\n".join(names) + "\n")


def taker(patches: Path, *paths: str, series: str = "6.12") -> None:
    folder = patches / "3.2"
    (folder / "config").mkdir(parents=True, exist_ok=True)
    listed = ", ".join(f'"{path}"' for path in paths)
    (folder / "base.toml").write_text(
        f'version = "3.2"\ntested = "3.2.0"\n{RELEASE}[shared]\nseries = "{series}"\npaths = [{listed}]\n'
    )
    (folder / "series").touch()
    for name in ("base", "popcorn"):
        (folder / "config" / f"{name}.config").write_text("")


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    path = tmp_path / "linux"
    (path / "init").mkdir(parents=True)
    (path / "Makefile").write_text("VERSION = 3\nPATCHLEVEL = 2\nSUBLEVEL = 0\n")
    (path / "Kconfig").write_text("")
    (path / "init/main.c").write_text("other main\n")
    return path


def test_shared_files_are_as_the_whole_other_series_leaves_them(tree: Path) -> None:
    series = load_series("3.2")
    applied = apply_series(find_base(series, tree), series)
    names = output("ls-tree", "-r", "--name-only", applied.head, cwd=linux_repository()).splitlines()
    assert names == ["Kconfig", "Makefile", "init/main.c", "kernel/popcorn/a.c"]
    assert git("show", f"{applied.head}:kernel/popcorn/a.c", cwd=linux_repository()).stdout == "first\nchanged\n"
    assert git("show", f"{applied.head}:init/main.c", cwd=linux_repository()).stdout == "other main\n"
    assert output("rev-parse", f"{applied.head}^", cwd=linux_repository()) == applied.base.commit


def test_the_first_commit_is_always_the_same(tree: Path) -> None:
    series = load_series("3.2")
    base = find_base(series, tree)
    first = apply_series(base, series)
    for ref in output("for-each-ref", "--format=%(refname)", "refs/popcorn/shared", cwd=linux_repository()).split():
        git("update-ref", "-d", ref, cwd=linux_repository())
    assert apply_series(base, series) == first


def test_a_single_file_can_be_shared(project: Path, tree: Path) -> None:
    taker(project, "kernel/popcorn/a.c")
    assert shared_content(load_series("3.2"))["series"] == "6.12"


@pytest.mark.parametrize("path", ["kernel/popcorn/c.c", "kernel/popcorn/b.c", "kernel/pop", "kernel/popcorn/a"])
def test_a_path_that_the_other_series_does_not_leave_is_refused(project: Path, path: str) -> None:
    taker(project, "kernel/popcorn/a.c", path)
    with pytest.raises(UserError, match=rf"base\.toml: shared\.paths: no patch of the series 6\.12 creates {path}$"):
        shared_content(load_series("3.2"))


def test_a_file_of_the_other_base_is_refused_with_the_patch_that_changes_it(project: Path) -> None:
    taker(project, "init")
    with pytest.raises(UserError, match=r"0002-change\.patch changes init/main\.c, which the base of the series") as it:
        shared_content(load_series("3.2"))
    assert "without init/main.c" in it.value.hint


def test_a_patch_that_does_not_follow_from_those_before_is_told(project: Path) -> None:
    donor(project, ADDS, CHANGES.replace("-second", "-other"))
    with pytest.raises(UserError, match=r"what 0002-change\.patch does to the shared paths cannot be replayed"):
        shared_content(load_series("3.2"))


def test_a_file_that_the_own_base_has_is_refused(tree: Path) -> None:
    (tree / "kernel/popcorn").mkdir(parents=True)
    (tree / "kernel/popcorn/a.c").write_text("")
    series = load_series("3.2")
    with pytest.raises(UserError, match=r"the base of the series 3\.2 has kernel/popcorn/a\.c already"):
        apply_series(find_base(series, tree), series)


@pytest.mark.parametrize(("other", "complaint"), [("3.2", "the series itself"), ("5.0", "there is no series '5.0'")])
def test_another_series_that_cannot_give_is_refused(project: Path, other: str, complaint: str) -> None:
    taker(project, "kernel/popcorn", series=other)
    with pytest.raises(UserError, match=complaint):
        shared_content(load_series("3.2"))


def test_the_other_series_may_not_take_files_itself(project: Path) -> None:
    base = project / "6.12/base.toml"
    base.write_text(base.read_text() + '[shared]\nseries = "3.2"\npaths = ["x"]\n')
    with pytest.raises(UserError, match=r"the series 6\.12 takes files from another one itself"):
        shared_content(load_series("3.2"))


def key(tree: Path, *, popcorn: bool = True) -> dict[str, object]:
    series = load_series("3.2")
    return kernel_inputs(series, "default", find_base(series, tree), popcorn=popcorn)


def test_a_change_of_a_shared_file_makes_another_kernel_and_any_other_change_does_not(
    project: Path, tree: Path
) -> None:
    before, without = key(tree), key(tree, popcorn=False)
    donor(project, ADDS, CHANGES.replace("hooked", "hooked otherwise"))
    assert key(tree) == before
    donor(project, ADDS, CHANGES.replace("changed", "changed otherwise"))
    assert key(tree) != before
    assert key(tree, popcorn=False) == without


@pytest.fixture
def work(tree: Path, tmp_path: Path) -> Path:
    checkout(tmp_path / "work", "3.2", tree)
    return tmp_path / "work"


def test_a_checkout_begins_with_the_shared_files(work: Path) -> None:
    subjects = output("log", "--format=%s", cwd=work).splitlines()
    assert subjects == ["popcorn: sources shared with the series 6.12", "Base of the series 3.2"]
    assert refresh(work).patches == ()


def commit(work: Path, name: str, content: str, *words: str) -> None:
    (work / name).write_text(content)
    git("add", name, cwd=work)
    git("commit", "--quiet", *(words or ("--message=init: change",)), cwd=work)


def test_refresh_writes_what_comes_after_the_shared_files(work: Path, project: Path) -> None:
    commit(work, "init/main.c", "hooked main\n")
    commit(work, "kernel/popcorn/a.c", "first\nof 3.2\n")
    assert refresh(work).patches == ("0001-init-change.patch", "0002-init-change.patch")
    assert "popcorn/a.c" not in (project / "3.2/0001-init-change.patch").read_text()
    assert refresh(work).changed == ()


def test_refresh_refuses_a_changed_first_commit_and_says_where_to_change_it(work: Path, project: Path) -> None:
    commit(work, "kernel/popcorn/a.c", "mine\n", "--amend", "--no-edit")
    with pytest.raises(UserError, match=r"does not hold the files of the series 6\.12 .*: kernel/popcorn/a\.c$") as it:
        refresh(work)
    assert "change them there" in it.value.hint
    assert (project / "3.2/series").read_text() == ""


def test_refresh_refuses_a_first_commit_that_was_dropped(work: Path) -> None:
    git("reset", "--quiet", "--hard", "HEAD^", cwd=work)
    with pytest.raises(UserError, match="does not hold the files of the series"):
        refresh(work)


def test_refresh_tells_that_the_other_series_went_on(
    work: Path, project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    commit(work, "init/main.c", "hooked main\n")
    refresh(work)
    assert "has changed its files" not in capsys.readouterr().err
    donor(project, ADDS, CHANGES.replace("changed", "changed otherwise"))
    refresh(work)
    assert "the series 6.12 has changed its files since this checkout" in capsys.readouterr().err
