# SPDX-License-Identifier: Apache-2.0
"""Beginning, rebasing and mailing patches, on a kernel tree of three files."""

from __future__ import annotations

import mailbox
import os
import re
from pathlib import Path

import pytest
from click.testing import CliRunner
from test_series import LINES, PATCH, make_tree

from popcorn.build import checkout as checkout_module
from popcorn.build import series as series_module
from popcorn.build.checkout import checkout, refresh
from popcorn.build.git import git, output
from popcorn.build.newpatch import new_patch
from popcorn.build.patchtree import TEMPLATE_MARK
from popcorn.build.rebase import give_up, go_on, rebase
from popcorn.build.send import MBOX, prepare
from popcorn.cli.kernel import kernel
from popcorn.errors import HostError, UserError


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with the series 6.12 of one patch; returns its folder."""
    monkeypatch.setattr(series_module, "source_root", lambda: tmp_path / "project")
    path = tmp_path / "project" / "kernel-patches" / "6.12"
    (path / "config").mkdir(parents=True)
    (path / "config" / "base.config").write_text("CONFIG_64BIT=y\n")
    (path / "base.toml").write_text('version = "6.12"\ntested = "6.12.1"\ndebian = "linux-source-6.12"\n')
    (path / "series").write_text("# a comment\n0001-init-change-line-20.patch\n")
    (path / "0001-init-change-line-20.patch").write_text(PATCH)
    configuration = tmp_path / "gitconfig"
    configuration.write_text("[user]\n\tname = A Hacker\n\temail = hacker@example.org\n")
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(configuration))
    return path


@pytest.fixture
def work(folder: Path, tmp_path: Path) -> Path:
    """A checkout of it on 6.12.1."""
    checkout(tmp_path / "work", "6.12", make_tree(tmp_path / "linux", LINES))
    return tmp_path / "work"


def newer(tmp_path: Path, *, changed: int | None = None, version: str = "6.12.2") -> Path:
    """A newer base, with a line changed if one is named."""
    major, minor, sub = version.split(".")
    lines = [f"newer {number}\n" if number == changed else line for number, line in enumerate(LINES, 1)]
    tree = make_tree(tmp_path / f"linux-{version}", lines)
    (tree / "Makefile").write_text(f"VERSION = {major}\nPATCHLEVEL = {minor}\nSUBLEVEL = {sub}\n")
    return tree


def test_a_new_patch_is_the_users_and_has_to_be_written_before_it_is_one(work: Path, folder: Path) -> None:
    before = (folder / "series").read_text()
    new_patch(work, "init: say hello")
    assert output("show", "--no-patch", "--format=%an <%ae>", cwd=work) == "A Hacker <hacker@example.org>"
    assert TEMPLATE_MARK in output("show", "--no-patch", "--format=%B", cwd=work)
    with pytest.raises(UserError, match="is a template still"):
        refresh(work)
    git("commit", "--quiet", "--amend", "--allow-empty", "--message=init: say hello\n\nNobody did.", cwd=work)
    with pytest.raises(UserError, match=r"\(init: say hello\) changes nothing"):
        refresh(work)
    assert (folder / "series").read_text() == before
    (work / "init/hello.c").write_text("hello\n")
    git("add", "init/hello.c", cwd=work)
    git("commit", "--quiet", "--amend", "--no-edit", cwd=work)
    assert refresh(work).patches == ("0001-init-change-line-20.patch", "0002-init-say-hello.patch")


@pytest.mark.parametrize("subject", ["say hello", "init:", "init: " + "x" * 80, "init: say hello."])
def test_a_subject_that_upstream_would_not_take_is_refused(work: Path, subject: str) -> None:
    with pytest.raises(UserError, match="is no subject of a kernel patch"):
        new_patch(work, subject)


def test_patches_that_somebody_else_changed_are_not_overwritten(work: Path, folder: Path) -> None:
    patch = folder / "0001-init-change-line-20.patch"
    refresh(work)
    ours = patch.read_bytes()
    theirs = ours.replace(b"+LINE 20", b"+Line twenty")
    patch.write_bytes(theirs)
    with pytest.raises(UserError, match="have changed since"):
        refresh(work)
    assert patch.read_bytes() == theirs
    # As it was when it was checked out, or as this work tree wrote it, it may be replaced.
    for known in (PATCH.encode(), ours):
        patch.write_bytes(known)
        refresh(work)


def test_a_patch_that_the_series_does_not_list_is_left_alone(work: Path, folder: Path) -> None:
    (folder / "0009-mine.patch").write_text("not applied yet\n")
    assert refresh(work).removed == ()
    assert (folder / "0009-mine.patch").read_text() == "not applied yet\n"


@pytest.mark.parametrize("there", [True, False])
def test_a_checkout_that_was_interrupted_leaves_nothing(
    there: bool, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    tree = make_tree(tmp_path / "linux", LINES)
    if there:
        (tmp_path / "work").mkdir()
    with monkeypatch.context() as patched:
        patched.setattr(checkout_module, "show_new_files", interrupted)
        with pytest.raises(KeyboardInterrupt):
            checkout(tmp_path / "work", "6.12", tree)
    assert (tmp_path / "work").exists() == there
    checkout(tmp_path / "work", "6.12", tree)
    assert refresh(tmp_path / "work").patches == ("0001-init-change-line-20.patch",)


def test_a_series_is_rebased_and_its_patches_renewed(work: Path, folder: Path, tmp_path: Path) -> None:
    found = rebase(work, newer(tmp_path, changed=1))
    assert (found.version, found.done, found.conflict) == ("6.12.2", 1, "")
    assert (work / "init/main.c").read_text().startswith("newer 1\n")
    assert "LINE 20" in (work / "init/main.c").read_text()
    refresh(work)
    assert "+LINE 20" in (folder / "0001-init-change-line-20.patch").read_text()
    with pytest.raises(UserError, match=r"is on Linux 6\.12\.2 already"):
        rebase(work, tmp_path / "linux-6.12.2")


def test_a_conflict_is_resolved_and_gone_on_from(work: Path, folder: Path, tmp_path: Path) -> None:
    found = rebase(work, newer(tmp_path, changed=20))
    assert (found.done, found.total, found.conflict) == (0, 1, "init: change line 20")
    assert "<<<<<<<" in (work / "init/main.c").read_text()
    with pytest.raises(UserError, match=r"not committed|middle of a rebase"):
        refresh(work)
    # Not resolved yet: the same again, and nothing lost.
    assert go_on(work).conflict
    (work / "init/main.c").write_text("".join(LINES).replace("line 20\n", "LINE 20 anew\n"))
    git("add", "init/main.c", cwd=work)
    assert go_on(work).conflict == ""
    refresh(work)
    patch = (folder / "0001-init-change-line-20.patch").read_text()
    assert "-newer 20\n+LINE 20 anew\n" in patch
    with pytest.raises(UserError, match="nothing is being rebased"):
        go_on(work)


def test_an_aborted_rebase_leaves_all_as_it_was(work: Path, tmp_path: Path) -> None:
    head, base = (output("rev-parse", ref, cwd=work) for ref in ("HEAD", "refs/popcorn/base"))
    rebase(work, newer(tmp_path, changed=20))
    give_up(work)
    assert [output("rev-parse", ref, cwd=work) for ref in ("HEAD", "refs/popcorn/base")] == [head, base]
    assert output("status", "--porcelain", cwd=work) == ""


def test_another_version_makes_a_series_of_its_own(work: Path, folder: Path, tmp_path: Path) -> None:
    kept = {path.name: path.read_bytes() for path in folder.glob("*.patch")}
    found = rebase(work, newer(tmp_path, changed=2, version="6.18.3"))
    assert (found.series, found.version) == ("6.18", "6.18.3")
    assert refresh(work).patches == ("0001-init-change-line-20.patch",)
    assert {path.name: path.read_bytes() for path in folder.glob("*.patch")} == kept
    made = series_module.load_series("6.18")
    assert (made.version, made.tested, len(made.patches)) == ("6.18", "6.18.3", 1)
    assert (made.dir / "config" / "base.config").is_file()


def test_mail_has_a_cover_letter_and_tells_what_is_missing(work: Path, tmp_path: Path) -> None:
    made = prepare(work, tmp_path / "out", reroll=2)
    assert made.patches == ("v2-0000-cover-letter.patch", "v2-0001-init-change-line-20.patch")
    assert [one.partition(":")[0].split()[0] for one in made.missing] == ["subject", "Signed-off-by", "recipients"]
    cover = tmp_path / "cover"
    cover.write_text("init: change lines\n\nBecause they must be.\nFrom time to time.\n")
    made = prepare(work, tmp_path / "out", to=["list@example.org"], cover=cover)
    assert len(made.missing) == 1
    messages = list(mailbox.mbox(tmp_path / "out" / MBOX))
    assert [message["Subject"] for message in messages] == [
        "[PATCH 0/1] init: change lines",
        "[PATCH 1/1] init: change line 20",
    ]
    assert messages[0]["To"] == "list@example.org"
    assert "A Hacker" in messages[0]["From"]
    assert re.search(r"^Because they must be\.$", messages[0].get_payload(), re.MULTILINE)
    assert messages[1]["In-Reply-To"] == messages[0]["Message-Id"]


def test_a_folder_with_other_things_is_left_alone(work: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.tex").write_text("")
    with pytest.raises(UserError, match="holds other things"):
        prepare(work, tmp_path / "out")
    assert (tmp_path / "out" / "thesis.tex").exists()


@pytest.mark.parametrize(
    ("words", "cause"),
    [
        (("--cover", "nowhere"), "cannot read the cover letter nowhere: No such file or directory"),
        (("--to", "a list"), "'a list' is no mail address"),
        (("--output", "/proc/mail"), "cannot write to /proc/mail"),
    ],
)
def test_mail_that_cannot_be_made_leaves_nothing(
    words: tuple[str, ...], cause: str, work: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    done = CliRunner().invoke(kernel, ["send", str(work), "--dry-run", *words])
    assert isinstance(done.exception, UserError)
    assert cause in str(done.exception)
    assert list((tmp_path / "empty").iterdir()) == []


def test_nothing_is_ever_sent(work: Path) -> None:
    done = CliRunner().invoke(kernel, ["send", str(work)])
    assert isinstance(done.exception, UserError)
    assert "sends no mail" in str(done.exception)


@pytest.mark.parametrize("status", [0, 1])
def test_git_send_email_does_all_but_send_where_it_is_installed(
    work: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, status: int
) -> None:
    program = tmp_path / "bin" / "git-send-email"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" >{tmp_path}/words\necho no such mailbox >&2\nexit {status}\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    if status:
        with pytest.raises(HostError, match="git send-email refuses the messages: no such mailbox"):
            prepare(work, tmp_path / "out", to=["list@example.org"])
    else:
        assert prepare(work, tmp_path / "out", to=["list@example.org"], cc=["a@example.org"]).sendable
        words = (tmp_path / "words").read_text().splitlines()
        assert words[0] == "--dry-run"
        assert {"--to=list@example.org", "--cc=a@example.org", "--confirm=never"} < set(words)
        assert sum(word.endswith(".patch") for word in words) == 2
