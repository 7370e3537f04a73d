# SPDX-License-Identifier: Apache-2.0
"""Writing and hashing files; where things live."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from popcorn import dirs
from popcorn.errors import HostError
from popcorn.files import sha256_bytes, sha256_file, sha256_tree, tree_size_bytes, write_atomic


def test_a_file_is_replaced_whole_and_has_the_asked_mode(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "key"
    write_atomic(path, "one", mode=0o600)
    write_atomic(path, b"two", mode=0o600)
    assert path.read_text() == "two"
    assert path.stat().st_mode & 0o777 == 0o600
    assert [entry.name for entry in path.parent.iterdir()] == ["key"]


def test_a_failed_write_leaves_the_old_file_and_no_other(tmp_path: Path) -> None:
    path = tmp_path / "target"
    path.mkdir()
    with pytest.raises(OSError, match="directory"):
        write_atomic(path, "text")
    assert [entry.name for entry in tmp_path.iterdir()] == ["target"]


def test_a_file_has_the_hash_of_its_bytes(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"x" * 3_000_000)
    assert sha256_file(tmp_path / "f") == sha256_bytes(b"x" * 3_000_000)


def test_a_trees_hash_sees_names_contents_links_and_modes_but_not_times(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "f").write_text("1")
    hashes = [sha256_tree(tmp_path)]
    os.utime(tmp_path / "a" / "f", (1, 1))
    assert sha256_tree(tmp_path) == hashes[0]
    (tmp_path / "a" / "f").write_text("2")
    hashes.append(sha256_tree(tmp_path))
    (tmp_path / "a" / "f").chmod(0o755)
    hashes.append(sha256_tree(tmp_path))
    (tmp_path / "a" / "f").rename(tmp_path / "a" / "g")
    hashes.append(sha256_tree(tmp_path))
    (tmp_path / "l").symlink_to("a")
    hashes.append(sha256_tree(tmp_path))
    assert len(set(hashes)) == len(hashes)


def test_a_hard_link_is_counted_once(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"x" * 100_000)
    size = tree_size_bytes(tmp_path)
    os.link(tmp_path / "f", tmp_path / "g")
    assert tree_size_bytes(tmp_path) == size >= 100_000


def test_directories_are_where_the_environment_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POPCORN_CACHE", str(tmp_path / "c"))
    monkeypatch.setenv("POPCORN_RUNS", str(tmp_path / "r"))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    assert dirs.cache_dir() == tmp_path / "c"
    assert dirs.runs_dir() == tmp_path / "r"
    assert dirs.runtime_dir() == tmp_path / "popcorn"
    assert dirs.runtime_dir().stat().st_mode & 0o777 == 0o700


def test_a_directory_that_cannot_be_made_is_told_with_the_way_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("POPCORN_RUNS", str(tmp_path / "file" / "r"))
    with pytest.raises(HostError, match="file/r cannot be made: Not a directory") as raised:
        dirs.runs_dir()
    assert "POPCORN_RUNS" in raised.value.hint


def test_a_runtime_directory_of_somebody_else_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "popcorn").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(HostError, match="not a directory"):
        dirs.runtime_dir()


def test_the_source_root_holds_the_kernel_patches() -> None:
    assert (dirs.source_root() / "kernel-patches").is_dir()
