# SPDX-License-Identifier: Apache-2.0
"""A measurement that may fail while others go on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from popcorn import progress
from popcorn.errors import GuestError
from popcorn.run.results import Measurement

FAILURES_FILE = "failures.log"


def attempt(part: Callable[[], list[Measurement]], metrics: Mapping[str, str], run_dir: Path) -> list[Measurement]:
    """What a part measures; if a kernel does not do its part, that it failed. The reason goes to stderr and a log.

    Args:
        metrics: what there is no value of if it fails, with units.
        run_dir: where the log is.

    Raises:
        MachineLostError: there is nothing left to measure.
    """
    try:
        return part()
    except GuestError as error:
        progress.note(f"warning: {error}")
        with (run_dir / FAILURES_FILE).open("a", encoding="utf-8") as log:
            log.write(f"{', '.join(metrics)}: {error}\n")
        return [Measurement(metric, None, unit, status="failed", raw=FAILURES_FILE) for metric, unit in metrics.items()]
