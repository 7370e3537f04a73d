# SPDX-License-Identifier: Apache-2.0
"""Telling pytest-xdist which tests to keep together.

Its controller, which deals out the tests, collects none itself; the workers write what they found into a file that it
named. (Its own way, ``--dist loadgroup``, puts the group into the name of a test; pytest 9.2 does not take that.)
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path

import pytest
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling
from xdist.workermanage import WorkerController


def write_groups(path: Path, groups: Mapping[str, str]) -> None:
    """Tell the controller the group of each test that is in one, by the test's name."""
    # Each worker writes the same, and the controller reads when all have done so.
    path.write_text(json.dumps(groups), encoding="utf-8")


class GroupScheduling(LoadScopeScheduling):  # type: ignore[misc]
    """Deals out a group at a time, in the order in which the tests were collected."""

    def __init__(self, config: pytest.Config, log: Producer | None, groups: Path) -> None:
        # Those with most tests need not be the longest.
        config.option.loadscopereorder = False
        super().__init__(config, log)
        self._path = groups

    @cached_property
    def _groups(self) -> dict[str, str]:
        found: dict[str, str] = json.loads(self._path.read_text(encoding="utf-8"))
        return found

    def remove_node(self, node: WorkerController) -> str | None:
        """Take out a worker that ended; the test it was in, if it was in one, which is told of as lost.

        pytest-xdist deals out that test again, until it has ended as many workers as may end.
        """
        work = self.assigned_work[node]
        left = [(unit, test) for unit in work.values() for test, ended in unit.items() if not ended]
        if left:
            unit, crashed = left[0]
            unit[crashed] = True
        # A worker that is dealt nothing waits for more, and so does who deals.
        for group in [group for group, unit in work.items() if all(unit.values())]:
            del work[group]
        super().remove_node(node)
        return crashed if left else None

    def _assign_work_unit(self, node: WorkerController) -> None:
        group, unit = next(iter(self.workqueue.items()))
        try:
            super()._assign_work_unit(node)
        except OSError:
            # It has ended, and that is still to be told. What it was not given is the next one's.
            del self.assigned_work[node][group]
            self.workqueue[group] = unit
            self.workqueue.move_to_end(group, last=False)

    def _reschedule(self, node: WorkerController) -> None:
        # One that takes another's place has not told yet what it found; pytest-xdist ends all over that.
        if node in self.registered_collections:
            super()._reschedule(node)

    def _split_scope(self, nodeid: str) -> str:
        return self._groups.get(nodeid, nodeid)
