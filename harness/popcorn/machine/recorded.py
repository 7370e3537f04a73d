# SPDX-License-Identifier: Apache-2.0
"""What a run's folder tells of its machine, also of one that is gone."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from popcorn.errors import UserError
from popcorn.machine.registry import PLAN_FILE
from popcorn.machine.timestamps import Entry, parse_entries
from popcorn.plan import Plan, read_plan

_FOLLOW_S = 0.1


def plan_of(run_dir: Path) -> Plan:
    """The plan of the machine of a run, the last one if there were several.

    Raises:
        UserError: nothing was recorded there.
    """
    path = run_dir / PLAN_FILE
    try:
        return read_plan(path.read_text(encoding="utf-8"), str(path))
    except OSError as error:
        raise UserError(
            f"{run_dir} holds no recorded machine: its plan cannot be read: {error}",
            hint="name a machine's run (`popcorn up` tells its folder), or use --name",
        ) from error


def read_log(run_dir: Path, id: int | str) -> Iterator[Entry]:
    """The recorded console of a kernel of a run.

    Raises:
        UserError: nothing was recorded of it.
    """
    return follow_log(run_dir, id, lambda: False)


def follow_log(run_dir: Path, id: int | str, live: Callable[[], bool]) -> Iterator[Entry]:
    """The recorded console of a kernel of a run, and what comes as long as the machine is live; errors as `read_log`.

    Args:
        live: asked before each look, so that what came last is still read.
    """
    path = run_dir / "console" / f"{id}.jsonl"
    if not path.is_file():
        known = ", ".join(recorded_logs(run_dir)) or "none"
        raise UserError(f"nothing was recorded of the console of {id} in {run_dir}", hint=f"recorded are: {known}")
    with path.open(encoding="utf-8", errors="replace") as lines:
        rest = ""
        while True:
            going_on = live()
            *whole, rest = (rest + lines.read()).split("\n")
            yield from parse_entries(whole)
            if not going_on:
                return
            time.sleep(_FOLLOW_S)


def recorded_logs(run_dir: Path) -> list[str]:
    """The kernels whose console was recorded, by number, then ``serial``."""
    names = [path.stem for path in (run_dir / "console").glob("*.jsonl")]
    return sorted(names, key=lambda name: (not name.isdigit(), int(name) if name.isdigit() else 0, name))


def recorded_events(run_dir: Path) -> list[dict[str, object]]:
    """The run's events; see `recorder`."""
    try:
        lines = (run_dir / "events.jsonl").read_text(encoding="utf-8", errors="replace").split("\n")
    except FileNotFoundError:
        return []
    events = []
    for line in lines:
        with contextlib.suppress(ValueError):
            event = json.loads(line)
            # A recorder that was killed left half a line, which may be something else as a whole.
            if isinstance(event, dict) and isinstance(event.get("t"), float | int) and "event" in event:
                events.append(event)
    return events
