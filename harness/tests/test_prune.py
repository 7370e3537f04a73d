# SPDX-License-Identifier: Apache-2.0
"""What is removed from the cache, and what is not."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result
from filelock import FileLock

from popcorn.build import prune, store
from popcorn.cli.main import popcorn
from popcorn.clock import uptime_s
from popcorn.dirs import cache_dir
from popcorn.machine import registry

_DAY_S = 24 * 3600


def _built(number: int) -> Path:
    return store.get_or_build(
        "thing", {"number": number}, lambda folder: (folder / "it").write_text("x" * 9000) and None
    )


def _last_used(path: Path, days_ago: float) -> Path:
    when = time.time() - days_ago * _DAY_S
    manifest = path / store.MANIFEST
    os.utime(manifest if manifest.exists() else path, (when, when))
    return path


def _folder(name: str, days_ago: float) -> Path:
    path = cache_dir() / name
    path.mkdir(parents=True)
    (path / "file").write_text("x")
    return _last_used(path, days_ago)


def _prune(*words: str) -> Result:
    return CliRunner().invoke(popcorn, ["prune", *words], standalone_mode=False)


def test_what_was_not_used_for_long_goes_and_is_made_again() -> None:
    old, new = _last_used(_built(1), 31), _last_used(_built(2), 29)
    tree, python = _folder("build/tree-1", 40), _folder("python/0123", 50)
    kept = [_folder("build/6.12", 1), _folder("python/4567", 1), _folder("python/89.part", 50)]
    result = _prune()
    assert result.exception is None
    assert [line.split()[0] for line in result.stdout.splitlines()] == ["WHAT", "python", "kernel", "thing"]
    assert "in 3 folders unused for 30 days" in result.stderr
    assert not any(path.exists() for path in (old, tree, python, old.with_name(f"{old.name}.seen")))
    assert all(path.exists() for path in (new, *kept))
    assert _built(1) == old
    assert (old / "it").exists()


def test_a_dry_run_tells_the_same_and_removes_nothing() -> None:
    old = _last_used(_built(1), 8)
    told = _prune("--unused", "7", "--dry-run")
    assert str(old) in told.stdout
    assert "would go" in told.stderr
    assert old.exists()
    assert str(old) in _prune("--unused", "7").stdout


def test_using_a_thing_keeps_it() -> None:
    old = _last_used(_built(1), 31)
    assert store.find("thing", {"number": 1}) == old
    assert prune.unused(time.time() - _DAY_S) == []


def test_what_is_used_between_the_look_and_the_removal_stays() -> None:
    old = _last_used(_built(1), 31)
    (one,) = prune.unused(time.time())
    store.check(old)
    assert not prune.remove(one)
    assert (old / "it").exists()


def test_what_somebody_is_at_work_on_stays() -> None:
    tree = _folder("build/6.12", 31)
    (one,) = prune.unused(time.time())
    locks = cache_dir() / "locks"
    locks.mkdir()
    with FileLock(locks / "build-6.12.lock"):
        assert not prune.remove(one)
    assert tree.exists()


def test_what_machines_that_are_up_came_from_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    before, since = _last_used(_built(1), 99), _last_used(_built(2), 60)
    started = time.time() - 59.5 * _DAY_S
    up = registry.Record("m", "up", "", started=started, started_uptime=uptime_s() - 59.5 * _DAY_S)
    monkeypatch.setattr(registry, "records", lambda: [up])
    assert _prune("--unused", "7").exception is None
    assert (before.exists(), since.exists()) == (False, True)


def test_the_environment_that_prunes_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    own = _folder("python/0123", 99)
    monkeypatch.setattr(sys, "prefix", str(own))
    assert _prune().exception is None
    assert own.exists()


def test_what_a_killed_prune_left_is_removed_by_the_next() -> None:
    left = [_folder("build/6.12.gone", 99), _folder("python/0123.gone", 99)]
    assert prune.unused(time.time()) == []
    _prune()
    assert not any(path.exists() for path in left)


def test_an_empty_cache_is_no_error() -> None:
    result = _prune()
    assert result.exception is None
    assert result.stdout == ""
    assert "0 bytes removed" in result.stderr


def test_days_that_are_none_are_refused() -> None:
    assert isinstance(_prune("--unused", "0").exception, click.BadParameter)
