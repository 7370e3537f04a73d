# SPDX-License-Identifier: Apache-2.0
"""``popcorn bench messages`` and ``popcorn bench network`` measure all that they promise, in one round."""

from __future__ import annotations

import json
from pathlib import Path

from command import await_no_qemu, popcorn

from popcorn.run.goals import GOALS
from popcorn.run.results import read_results

_PREFIXES = {"messages": "msg.", "network": "net."}


def _bench(verb: str, *options: str) -> None:
    # All sockets of all its machines have paths of at most 107 bytes.
    done = popcorn("bench", verb, "--name", "b", "--repeat", "1", "--json", *options)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert [one["metric"] for one in told["goals"]] == [
        goal.metric for goal in GOALS if goal.metric.startswith(_PREFIXES[verb])
    ]
    assert all(one["value"] >= 0 for one in told["measurements"])
    report = Path(told["report"])
    assert "Measured by turns" in report.read_text(encoding="utf-8")
    recorded = {one.metric: one.value for one in read_results(report.parent) if one.kernel is None}
    assert {one["metric"]: one["value"] for one in told["measurements"]}.items() <= recorded.items()


def test_messages_are_measured(private_dirs: Path) -> None:
    _bench("messages")
    await_no_qemu(private_dirs, within_s=10)


def test_the_network_is_measured(private_dirs: Path) -> None:
    _bench("network", "--seconds", "1")
    await_no_qemu(private_dirs, within_s=10)
