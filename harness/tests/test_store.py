# SPDX-License-Identifier: Apache-2.0
"""The content-addressed store."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from popcorn.build import store
from popcorn.errors import DiskFullError, NoRoomError


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("POPCORN_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def writer(text: str) -> store.Build:
    def build(directory: Path) -> None:
        (directory / "thing").write_text(text)

    return build


def test_second_request_does_not_build_again() -> None:
    first = store.get_or_build("thing", {"a": 1}, writer("x"))
    second = store.get_or_build("thing", {"a": 1}, writer("y"))
    assert first == second
    assert (second / "thing").read_text() == "x"


def test_other_inputs_lead_to_another_entry() -> None:
    assert store.get_or_build("thing", {"a": 1}, writer("x")) != store.get_or_build("thing", {"a": 2}, writer("x"))


def test_order_of_inputs_does_not_matter() -> None:
    assert store.entry_key("k", {"a": 1, "b": 2}) == store.entry_key("k", {"b": 2, "a": 1})


def test_failing_build_leaves_nothing(cache: Path) -> None:
    def build(directory: Path) -> None:
        (directory / "half").write_text("")
        raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        store.get_or_build("thing", {}, build)
    assert list((cache / "store" / "thing").iterdir()) == []


def test_leftover_of_a_killed_build_is_swept_by_the_next_one(cache: Path) -> None:
    leftover = cache / "store" / "thing" / "0123.partial"
    leftover.mkdir(parents=True)
    (leftover / "half").write_text("")
    store.get_or_build("thing", {}, writer("x"))
    assert not leftover.exists()


def test_staging_directory_of_a_running_build_is_not_swept(cache: Path) -> None:
    running = cache / "store" / "thing" / "0123.partial"
    running.mkdir(parents=True)
    with store.locked("thing-0123", "nobody"):
        store.get_or_build("thing", {}, writer("x"))
    assert running.exists()


def test_truncated_file_is_reported_with_its_remedy() -> None:
    entry = store.get_or_build("thing", {}, writer("content"))
    (entry / "thing").chmod(0o644)
    (entry / "thing").write_text("cont")
    with pytest.raises(store.CorruptEntryError, match="thing has 4 bytes, expected 7") as caught:
        store.get_or_build("thing", {}, writer("content"))
    assert "--rebuild" in caught.value.hint
    assert caught.value.exit_status == 2


def test_changed_file_of_the_same_size_is_detected() -> None:
    entry = store.get_or_build("thing", {}, writer("content"))
    (entry / "thing").chmod(0o644)
    (entry / "thing").write_text("CONTENT")
    with pytest.raises(store.CorruptEntryError, match="sha256"):
        store.find("thing", {})


def test_missing_file_is_detected() -> None:
    entry = store.get_or_build("thing", {}, writer("content"))
    (entry / "thing").unlink()
    with pytest.raises(store.CorruptEntryError, match="missing"):
        store.find("thing", {})


def test_unreadable_manifest_is_detected() -> None:
    entry = store.get_or_build("thing", {}, writer("content"))
    (entry / "manifest.json").write_text("{")
    with pytest.raises(store.CorruptEntryError, match=r"manifest\.json"):
        store.find("thing", {})


def test_rebuild_replaces_a_corrupt_entry() -> None:
    entry = store.get_or_build("thing", {}, writer("content"))
    (entry / "thing").unlink()
    assert store.get_or_build("thing", {}, writer("content"), rebuild=True) == entry
    assert (entry / "thing").read_text() == "content"


def test_failing_rebuild_keeps_the_old_entry() -> None:
    entry = store.get_or_build("thing", {}, writer("content"))

    def build(directory: Path) -> None:
        raise ValueError

    with pytest.raises(ValueError):  # noqa: PT011
        store.get_or_build("thing", {}, build, rebuild=True)
    assert (entry / "thing").read_text() == "content"


def test_two_requests_at_once_build_once() -> None:
    built = []

    def build(directory: Path) -> None:
        built.append(directory)
        time.sleep(0.3)
        (directory / "thing").write_text("x")

    threads = [threading.Thread(target=store.get_or_build, args=("thing", {}, build)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(built) == 1


def test_lack_of_space_is_told_before_anything_is_built(cache: Path) -> None:
    with pytest.raises(NoRoomError, match=r"needs .* GiB free"):
        store.get_or_build("thing", {}, writer("x"), need_bytes=1 << 60)
    assert list((cache / "store" / "thing").iterdir()) == []


def test_disk_that_fills_up_during_a_build_is_told_with_its_place(cache: Path) -> None:
    def build(directory: Path) -> None:
        raise OSError(28, "No space left on device")

    with pytest.raises(DiskFullError, match="disk is full"):
        store.get_or_build("thing", {}, build)
    assert list((cache / "store" / "thing").iterdir()) == []


def test_same_inputs_and_content_give_the_same_manifest() -> None:
    entry = store.get_or_build("thing", {"a": 1}, writer("x"))
    first = (entry / "manifest.json").read_bytes()
    store.get_or_build("thing", {"a": 1}, writer("x"), rebuild=True)
    assert (entry / "manifest.json").read_bytes() == first
