# SPDX-License-Identifier: Apache-2.0
"""A bad patch among thirty, planted on top of the series, is found: built, booted and tested for real.

Each search builds some eight kernels and boots twice as many machines, the flaky one some hundred (`POPCORN_SLOW=1`); a
search among parameters builds nothing.
"""

from __future__ import annotations

import json
import signal
import time
from pathlib import Path
from typing import Any

import pytest
from command import popcorn, started
from planted import plant

_AT = 17
_HOURS_S = 4 * 3600.0
# What a run takes, and some; kernels that hang are given up after a minute.
_A_RUN_S = 600.0
_LOADER = 'test "$(sed -n "s/^loader: //p" /proc/popcorn/self)" = 0'


def _found(*words: str) -> dict[str, Any]:
    done = popcorn("bisect", *words, "--json", timeout_s=_HOURS_S)
    assert done.returncode == 0, done.stderr[-3000:]
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def _assert_blames(found: dict[str, Any], patch: str) -> None:
    rows = {row["candidate"]: row for row in found["evidence"]}
    assert found["answer"] == [f"{_AT}: {patch}"]
    assert found["outcome"]["confirmed"]
    assert found["outcome"]["error"] <= 0.01
    assert rows[f"{_AT}: {patch}"]["verdict"] == "bad"
    before = next(row for name, row in rows.items() if name.startswith(f"{_AT - 1}: "))
    assert before["verdict"] == "good"


def test_a_parameter_is_blamed_and_the_search_told_by_every_verb(private_dirs: Path) -> None:
    words = ("--command", "! grep -q planted /proc/cmdline", "--policy", "0;1", "--flaky-rate", "100%", "--name", "one")
    listed = [word for text in ("quiet", "planted", "nosmt") for word in ("--parameter", f"append={text}")]
    found = _found(*words, *listed)
    verdicts = {row["candidate"]: row["verdict"] for row in found["evidence"]}
    assert verdicts["2: append=planted"] == "bad"
    assert verdicts["1: append=quiet"] == "good"
    assert found["failure"] == "the command ended with status 1"
    assert len(popcorn("bisect", "log", "one").stdout.splitlines()) == found["runs"]
    assert "ended: 2: append=planted" in popcorn("bisect", "status").stdout
    # Ended, it does nothing but tell the answer again.
    again = popcorn("bisect", "--resume", "one")
    assert again.returncode == 0, again.stderr
    assert "the first bad parameter is 2: append=planted" in again.stdout
    assert len(popcorn("bisect", "log").stdout.splitlines()) == found["runs"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("compile error", ["--build"]),
        ("boot hang", ["--command", "true"]),
        ("wrong result", ["--command", _LOADER]),
        ("flaky crash", ["--command", "true", "--flaky-rate", "20%"]),
        ("more IPIs", ["--metric", "msg.ipis_idle", "--worse", "10%"]),
    ],
    ids=lambda value: value.replace(" ", "-") if isinstance(value, str) else "",
)
def test_a_planted_patch_is_blamed(private_dirs: Path, tmp_path: Path, kind: str, words: list[str]) -> None:
    patch = plant(tmp_path / "patches", kind, _AT)
    _assert_blames(_found("--patches", str(tmp_path / "patches"), *words), patch)


@pytest.mark.slow
def test_a_planted_patch_is_blamed_by_a_suite(private_dirs: Path, tmp_path: Path) -> None:
    patch = plant(tmp_path / "patches", "wrong id", _AT)
    test = "testsuites/test_smoke.py::test_every_kernel_has_the_cpus_of_its_partition[6.12]"
    found = _found("--patches", str(tmp_path / "patches"), "--test", test)
    assert found["failure"].startswith("test_every_kernel_has_the_cpus_of_its_partition")
    _assert_blames(found, patch)


@pytest.mark.slow
def test_a_search_that_was_interrupted_by_hand_and_by_force_goes_on(private_dirs: Path, tmp_path: Path) -> None:
    patch = plant(tmp_path / "patches", "wrong result", _AT)
    words = ["--patches", str(tmp_path / "patches"), "--command", _LOADER, "--name", "cut"]
    for number, how in enumerate((signal.SIGINT, signal.SIGKILL)):
        with started("bisect", *(words if not number else ("--resume", "cut"))) as search:
            _await_runs(2 * number + 1)
            search.send_signal(how)
            search.wait(60)
    found = json.loads(popcorn("bisect", "--resume", "cut", "--json", timeout_s=_HOURS_S).stdout)
    _assert_blames(found, patch)


def _await_runs(count: int) -> None:
    deadline = time.monotonic() + _A_RUN_S * (count + 1)
    while len(popcorn("bisect", "log", "cut").stdout.splitlines()) < count:
        assert time.monotonic() < deadline, f"no {count} runs within {_A_RUN_S * (count + 1):g} s"
        time.sleep(1)
