# SPDX-License-Identifier: Apache-2.0
"""The persistent work tree, and what an interrupted build leaves in it."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from popcorn.build import kconfig
from popcorn.build.git import TreeEntry, import_tree, linux_repository, output
from popcorn.build.kbuild import Kbuild
from popcorn.build.workspace import interruptible, workspace
from popcorn.errors import NoRoomError

OLD_S = 1_600_000_000


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("POPCORN_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("popcorn.build.workspace.WORKSPACE_BYTES", 1)
    return tmp_path / "cache"


def commit(**files: str) -> str:
    entries: Iterator[TreeEntry] = (TreeEntry("100644", name, text.encode()) for name, text in files.items())
    made = import_tree(linux_repository(), entries, "test\n")
    output("update-ref", f"refs/test/{made}", made, cwd=linux_repository())
    return made


def test_same_tree_gives_the_same_commit() -> None:
    assert commit(Makefile="a", x="1") == commit(Makefile="a", x="1")


def test_switching_touches_only_files_that_differ() -> None:
    with workspace("w", commit(Makefile="a", same="s", other="1")) as place:
        before = {name: (place.tree / name).stat().st_mtime_ns for name in ("same", "other")}
    with workspace("w", commit(Makefile="a", same="s", other="2")) as place:
        assert (place.tree / "same").stat().st_mtime_ns == before["same"]
        assert (place.tree / "other").stat().st_mtime_ns > before["other"]
        assert (place.tree / "other").read_text() == "2"


def test_edited_and_stray_files_do_not_survive() -> None:
    made = commit(Makefile="a")
    with workspace("w", made) as place:
        (place.tree / "Makefile").write_text("edited")
        (place.tree / "stray.c").write_text("")
    with workspace("w", made) as place:
        assert (place.tree / "Makefile").read_text() == "a"
        assert not (place.tree / "stray.c").exists()


def test_objects_survive_a_switch() -> None:
    with workspace("w", commit(Makefile="a")) as place:
        (place.objects("default") / "a.o").write_text("object")
    with workspace("w", commit(Makefile="b")) as place:
        assert (place.objects("default") / "a.o").read_text() == "object"


def test_lock_file_of_a_killed_git_is_no_hindrance() -> None:
    with workspace("w", commit(Makefile="a")) as place:
        git_dir = Path(output("rev-parse", "--absolute-git-dir", cwd=place.tree))
        (git_dir / "index.lock").write_text("")
    with workspace("w", commit(Makefile="b")) as place:
        assert (place.tree / "Makefile").read_text() == "b"


def test_vanished_tree_is_made_again(cache: Path) -> None:
    made = commit(Makefile="a")
    with workspace("w", made) as place:
        (place.tree / "Makefile").unlink()
    with workspace("w", made) as place:
        assert (place.tree / "Makefile").read_text() == "a"


def test_lack_of_space_is_told_before_the_tree_is_made(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("popcorn.build.workspace.WORKSPACE_BYTES", 1 << 60)
    made = commit(Makefile="a")
    with pytest.raises(NoRoomError), workspace("w", made):
        pass
    assert not (cache / "build" / "w").exists()


def killed_while(objects: Path, work: Callable[[], object]) -> None:
    with contextlib.suppress(KeyboardInterrupt), interruptible(objects):
        work()
        raise KeyboardInterrupt


def test_objects_of_a_killed_build_are_made_again(tmp_path: Path) -> None:
    old, young = tmp_path / "old.o", tmp_path / "young.o"
    old.write_text("")
    os.utime(old, (OLD_S, OLD_S))
    killed_while(tmp_path, lambda: young.write_text("half"))
    with interruptible(tmp_path):
        assert old.exists()
        assert not young.exists()


def test_objects_finished_long_before_the_kill_are_kept(tmp_path: Path) -> None:
    early, late = tmp_path / "early.o", tmp_path / "late.o"

    def work() -> None:
        early.write_text("whole")
        late.write_text("half")
        hour_later_s = time.time() + 3600
        os.utime(late, (hour_later_s, hour_later_s))

    killed_while(tmp_path, work)
    with interruptible(tmp_path):
        assert early.exists()
        assert not late.exists()


def test_failed_build_keeps_what_it_made(tmp_path: Path) -> None:
    with interruptible(tmp_path):
        (tmp_path / "a.o").write_text("")
    with interruptible(tmp_path):
        assert (tmp_path / "a.o").exists()


def test_configuring_after_a_kill_writes_nothing_before_the_clearing(tmp_path: Path) -> None:
    """What is younger would be taken for the last work of the killed build."""

    class Cleared(Exception):
        pass

    class Recorder(Kbuild):
        def make(self, *_: object, **__: object) -> object:  # type: ignore[override]
            assert list(self.objects.iterdir()) == []
            raise Cleared

    with pytest.raises(Cleared):
        kconfig.configure(Recorder(tmp_path, tmp_path.parent / "log"), [])
