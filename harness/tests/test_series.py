# SPDX-License-Identifier: Apache-2.0
"""Bases, series, checkout and refresh, on a kernel tree of three files."""

from __future__ import annotations

import io
import re
import subprocess
import tarfile
from pathlib import Path

import pytest

from popcorn.build import series as series_module
from popcorn.build.apply import apply_series, first_refusal
from popcorn.build.checkout import checkout, refresh
from popcorn.build.git import git, linux_repository, output
from popcorn.build.series import load_series
from popcorn.build.source import find_base
from popcorn.errors import UserError

LINES = [f"line {number}\n" for number in range(1, 41)]

PATCH = """\
From 0000000000000000000000000000000000000000 Mon Sep 17 00:00:00 2001
From: Somebody <somebody@example.org>
Date: Mon, 2 Jan 2023 03:04:05 +0100
Subject: [PATCH] init: change line 20

Because it must be changed.
---
 init/main.c | 2 +-
 1 file changed, 1 insertion(+), 1 deletion(-)

diff --git a/init/main.c b/init/main.c
--- a/init/main.c
+++ b/init/main.c
@@ -17,7 +17,7 @@ line 16
 line 17
 line 18
 line 19
-line 20
+LINE 20
 line 21
 line 22
 line 23
"""


@pytest.fixture(autouse=True)
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with the series 6.12 of one patch; returns its folder."""
    monkeypatch.setenv("POPCORN_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(series_module, "source_root", lambda: tmp_path / "project")
    folder = tmp_path / "project" / "kernel-patches" / "6.12"
    folder.mkdir(parents=True)
    (folder / "base.toml").write_text('version = "6.12"\ntested = "6.12.1"\ndebian = "linux-source-6.12"\n')
    (folder / "series").write_text("# a comment\n0001-init-change-line-20.patch  # the only one\n")
    (folder / "0001-init-change-line-20.patch").write_text(PATCH)
    return folder


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    return make_tree(tmp_path / "linux", LINES)


def make_tree(path: Path, lines: list[str], sublevel: int = 1) -> Path:
    (path / "init").mkdir(parents=True)
    (path / "Makefile").write_text(f"VERSION = 6\nPATCHLEVEL = 12\nSUBLEVEL = {sublevel}\n")
    (path / "Kconfig").write_text("")
    (path / "init/main.c").write_text("".join(lines))
    (path / "link").symlink_to("init/main.c")
    return path


def file_at(commit: str, name: str) -> str:
    return git("show", f"{commit}:{name}", cwd=linux_repository()).stdout


def test_tree_and_tarball_of_the_same_content_are_the_same_base(tree: Path, tmp_path: Path) -> None:
    tarball = tmp_path / "linux.tar.xz"
    with tarfile.open(tarball, "w:xz") as archive:
        archive.add(tree, "linux-6.12.1")
    series = load_series("6.12")
    assert find_base(series, tree).tree == find_base(series, tarball).tree
    assert find_base(series, tree).commit == find_base(series, tarball).commit


def test_linux_source_package_is_read_like_the_tarball_inside_it(tree: Path, tmp_path: Path) -> None:
    inner = io.BytesIO()
    with tarfile.open(fileobj=inner, mode="w:xz") as archive:
        archive.add(tree, "linux-source-6.12")
    outer = io.BytesIO()
    with tarfile.open(fileobj=outer, mode="w:xz") as archive:
        member = tarfile.TarInfo("./usr/src/linux-source-6.12.tar.xz")
        member.size = len(inner.getvalue())
        archive.addfile(member, io.BytesIO(inner.getvalue()))
    package = tmp_path / "linux-source-6.12_1_all.deb"
    members = [(b"debian-binary", b"2.0\n"), (b"control.tar.xz", b"odd"), (b"data.tar.xz", outer.getvalue())]
    package.write_bytes(
        b"!<arch>\n"
        + b"".join(
            name.ljust(16) + b"0           0     0     100644  " + str(len(body)).encode().ljust(10) + b"`\n" + body
            + b"\n" * (len(body) % 2)
            for name, body in members
        )
    )  # fmt: skip
    assert find_base(load_series("6.12"), package).tree == find_base(load_series("6.12"), tree).tree


def test_truncated_tarball_is_the_users_to_mend(tree: Path, tmp_path: Path) -> None:
    tarball = tmp_path / "linux.tar.xz"
    with tarfile.open(tarball, "w:xz") as archive:
        archive.add(tree, "linux-6.12.1")
    tarball.write_bytes(tarball.read_bytes()[:-200])
    with pytest.raises(UserError, match="truncated or damaged"):
        find_base(load_series("6.12"), tarball)


def test_changed_file_in_a_source_tree_gives_another_base(tree: Path) -> None:
    before = find_base(load_series("6.12"), tree)
    (tree / "init/main.c").write_text("other\n")
    assert find_base(load_series("6.12"), tree).tree != before.tree


def test_another_kernel_version_is_refused(tmp_path: Path) -> None:
    old = make_tree(tmp_path / "old", LINES)
    (old / "Makefile").write_text("VERSION = 6\nPATCHLEVEL = 1\nSUBLEVEL = 9\n")
    with pytest.raises(UserError, match=r"is Linux 6\.1\.9; the series 6\.12 needs 6\.12\.y"):
        find_base(load_series("6.12"), old)


def test_tree_that_was_built_in_is_refused(tree: Path) -> None:
    (tree / ".config").write_text("")
    with pytest.raises(UserError, match="built in") as caught:
        find_base(load_series("6.12"), tree)
    assert "mrproper" in caught.value.hint


def test_directory_without_a_kernel_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="not a kernel tree"):
        find_base(load_series("6.12"), tmp_path)


def test_source_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="not there"):
        find_base(load_series("6.12"), tmp_path / "none")


def test_difference_from_the_tested_base_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    find_base(load_series("6.12"), make_tree(tmp_path / "newer", LINES, sublevel=2))
    assert "tested on 6.12.1; this base is 6.12.2" in capsys.readouterr().err


def test_applied_series_is_one_commit_a_patch(tree: Path) -> None:
    applied = apply_series(find_base(load_series("6.12"), tree), load_series("6.12"))
    assert len(applied.commits) == 1
    assert "LINE 20\n" in file_at(applied.head, "init/main.c")
    assert file_at(applied.head, "link") == "init/main.c"


def test_applying_twice_gives_the_same_commits(tree: Path) -> None:
    series = load_series("6.12")
    base = find_base(series, tree)
    first = apply_series(base, series)
    for ref in output("for-each-ref", "--format=%(refname)", "refs/popcorn/series", cwd=linux_repository()).split():
        git("update-ref", "-d", ref, cwd=linux_repository())
    assert apply_series(base, series) == first


def test_offset_is_tolerated(tmp_path: Path) -> None:
    tree = make_tree(tmp_path / "shifted", ["new\n"] * 9 + LINES)
    series = load_series("6.12")
    assert "LINE 20" in file_at(apply_series(find_base(series, tree), series).head, "init/main.c")


def test_partly_changed_context_is_tolerated_and_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = [line if line != "line 17\n" else "other\n" for line in LINES]
    series = load_series("6.12")
    applied = apply_series(find_base(series, make_tree(tmp_path / "changed", lines)), series)
    assert "LINE 20" in file_at(applied.head, "init/main.c")
    assert "single line of context" in capsys.readouterr().err


def test_patch_that_does_not_apply_is_named_with_file_and_hunk(tmp_path: Path) -> None:
    lines = [line for line in LINES if line != "line 20\n"]
    series = load_series("6.12")
    base = find_base(series, make_tree(tmp_path / "changed", lines))
    with pytest.raises(
        UserError, match=r"0001-init-change-line-20\.patch does not apply: init/main\.c, hunk at line 17"
    ):
        apply_series(base, series)


def test_refusal_of_a_missing_file_names_it() -> None:
    refusal = first_refusal("error: kernel/none.c: does not exist in index\n")
    assert refusal is not None
    assert refusal.file == "kernel/none.c"


def test_unknown_series_lists_those_that_exist() -> None:
    with pytest.raises(UserError, match=r"no series '7\.0'") as caught:
        load_series("7.0")
    assert "6.12" in caught.value.hint


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("0001-init-change-line-20.patch\nnone.patch\n", "series:2: none.patch is not in"),
        ("0001-init-change-line-20.patch\n0001-init-change-line-20.patch\n", "series:2: .* listed twice"),
        ("../evil.patch\n", r"series:1: expected the name of a \.patch file"),
    ],
)
def test_faulty_series_file_is_refused_with_its_line(root: Path, text: str, complaint: str) -> None:
    (root / "series").write_text(text)
    with pytest.raises(UserError, match=complaint):
        load_series("6.12")


@pytest.fixture
def work(tree: Path, tmp_path: Path, root: Path) -> Path:
    """A checkout whose series has been refreshed once."""
    checkout(tmp_path / "work", "6.12", tree)
    refresh(tmp_path / "work")
    return tmp_path / "work"


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def test_refresh_of_an_untouched_checkout_changes_nothing(work: Path, root: Path) -> None:
    before = contents(root)
    done = refresh(work)
    assert (done.changed, done.removed) == ((), ())
    assert contents(root) == before


def test_patches_survive_a_round_trip_byte_for_byte(work: Path, root: Path, tree: Path, tmp_path: Path) -> None:
    before = contents(root)
    checkout(tmp_path / "again", "6.12", tree)
    assert refresh(tmp_path / "again").changed == ()
    assert contents(root) == before


def test_checkout_keeps_author_and_message(work: Path) -> None:
    shown = output("log", "-1", "--format=%an <%ae>%n%aI%n%B", cwd=work)
    assert shown.startswith(
        "Somebody <somebody@example.org>\n2023-01-02T03:04:05+01:00\ninit: change line 20\n\nBecause"
    )


def test_longer_object_ids_are_no_reason_to_rewrite_a_patch(work: Path, root: Path) -> None:
    patch = root / "0001-init-change-line-20.patch"
    shorter = re.sub(r"^index (\w{9})\w*\.\.(\w{9})\w*", r"index \1..\2", patch.read_text(), flags=re.MULTILINE)
    assert shorter != patch.read_text()
    patch.write_text(shorter)
    assert refresh(work).changed == ()
    assert patch.read_text() == shorter


def test_new_commit_becomes_a_new_patch(work: Path, root: Path) -> None:
    (work / "init/new.c").write_text("new\n")
    git("add", "init/new.c", cwd=work)
    git("commit", "--quiet", "--message=init: add a file", cwd=work)
    assert set(refresh(work).changed) == {"0002-init-add-a-file.patch", "series"}
    assert [patch.name for patch in load_series("6.12").patches] == [
        "0001-init-change-line-20.patch",
        "0002-init-add-a-file.patch",
    ]


def test_a_new_file_is_seen_though_debians_sources_ignore_all(tree: Path, tmp_path: Path, root: Path) -> None:
    (tree / ".gitignore").write_text("*.o\n/*\n!/debian/\n")
    work = tmp_path / "work"
    checkout(work, "6.12", tree)
    assert output("status", "--porcelain", cwd=work) == ""
    (work / "init/new.c").write_text("new\n")
    (work / "init/new.o").write_text("an object\n")
    assert output("status", "--porcelain", cwd=work) == "?? init/new.c"
    with pytest.raises(UserError, match=r"not committed: init/new\.c"):
        refresh(work)


def test_dropped_commit_removes_its_patch(work: Path, root: Path) -> None:
    git("reset", "--quiet", "--hard", "HEAD^", cwd=work)
    assert refresh(work).removed == ("0001-init-change-line-20.patch",)
    assert load_series("6.12").patches == ()


def test_users_git_configuration_does_not_change_the_patches(work: Path, root: Path) -> None:
    before = contents(root)
    for key, value in (
        ("diff.noprefix", "true"),
        ("format.signature", "x"),
        ("diff.context", "9"),
        ("format.numbered", "true"),
    ):
        subprocess.run(["git", "config", key, value], cwd=work, check=True)
    refresh(work)
    assert contents(root) == before


def test_refresh_of_a_dirty_tree_is_refused(work: Path) -> None:
    (work / "init/main.c").write_text("dirty\n")
    with pytest.raises(UserError, match=r"not committed: init/main\.c"):
        refresh(work)


def test_refresh_of_a_strange_tree_is_refused(tmp_path: Path) -> None:
    (tmp_path / "strange").mkdir()
    git("init", "--quiet", cwd=tmp_path / "strange")
    with pytest.raises(UserError, match="was not made by"):
        refresh(tmp_path / "strange")


def test_checkout_into_a_full_directory_is_refused(tree: Path, root: Path) -> None:
    with pytest.raises(UserError, match="is not empty"):
        checkout(root, "6.12", tree)
    assert (root / "series").is_file()
