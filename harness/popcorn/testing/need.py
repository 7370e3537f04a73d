# SPDX-License-Identifier: Apache-2.0
"""What a test wants booted, as its markers say it."""

from __future__ import annotations

import os
from dataclasses import astuple, dataclass, fields
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from popcorn.errors import UserError

if TYPE_CHECKING:
    from popcorn.machine.boot import AccelChoice

EVERY_SERIES = ("6.12", "3.2")
"""The default first."""
MIXED = ("6.12+3.2", "3.2+6.12")
"""The primary's and the secondaries'."""


@dataclass(frozen=True)
class Need:
    """What a test wants booted; equal needs share a machine."""

    machine: str
    policy: str = "per-core"
    flavour: str = "default"
    scratch: bool = False
    series: str = EVERY_SERIES[0]
    secondary_series: str = EVERY_SERIES[0]
    accel: AccelChoice = "auto"

    def __str__(self) -> str:
        return " ".join(str(value) for value in astuple(self))


_OPTIONS = {field.name for field in fields(Need)} - {"machine", "secondary_series"}


def need_of(item: pytest.Item) -> Need | None:
    """What a test's markers ask for; None for one that asks for no machine.

    Raises:
        UsageError: a marker says something that is not known.
    """
    marker = item.get_closest_marker("machine")
    if marker is None:
        return None
    series = marker.kwargs.get("series")
    if isinstance(series, tuple):
        series = item.callspec.params["series"]  # type: ignore[attr-defined]
    try:
        return _need(marker, item.path.parent, series, kvm=item.get_closest_marker("kvm") is not None)
    except ValueError as error:
        raise pytest.UsageError(f"{item.nodeid}: {error}") from error


def require_sense(marker: pytest.Mark, nodeid: str, folder: Path) -> None:
    """Look at a marker while tests are collected: a suite that is wrong is neither pytest's failure nor a kernel's.

    Raises:
        CollectError: it says something that is not known.
    """
    several = marker.kwargs.get("series")
    try:
        for series in several if isinstance(several, tuple) else (several,):
            nr_cpus_of(_need(marker, folder, series, kvm=False))
    except ValueError as error:
        raise pytest.Collector.CollectError(f"{nodeid}: {error}") from error
    except UserError as error:
        hint = f" ({error.hint})" if error.hint else ""
        raise pytest.Collector.CollectError(f"{nodeid}: {error}{hint}") from error


def _need(marker: pytest.Mark, folder: Path, series: str | None, *, kvm: bool) -> Need:
    """What a marker asks for. Raises ValueError."""
    if len(marker.args) > 1 or not all(isinstance(name, str) for name in marker.args):
        given = ", ".join(map(repr, marker.args))
        raise ValueError(f"the marker machine takes one name, and the rest by words such as policy=, not {given}")
    if unknown := marker.kwargs.keys() - _OPTIONS:
        known, wrong = ", ".join(sorted(_OPTIONS)), ", ".join(sorted(unknown))
        raise ValueError(f"the marker machine takes {known}, not {wrong}")
    options: dict[str, Any] = dict(marker.kwargs)
    if kvm:
        options["accel"] = "kvm"
    if series is not None:
        options["series"], _, secondaries = series.partition("+")
        options["secondary_series"] = secondaries or options["series"]
    return Need(_machine(marker.args[0] if marker.args else "small", folder), **options)


@cache
def nr_cpus_of(need: Need) -> int:
    """How many CPUs its machine has.

    Raises:
        UserError: there is no such machine, policy, flavour or series.
    """
    from popcorn.build.kconfig import fragments
    from popcorn.build.series import load_series
    from popcorn.config import load_machine
    from popcorn.plan import make_plan

    machine = load_machine(need.machine)
    make_plan(machine, need.policy)
    for series in (need.series, need.secondary_series):
        fragments(load_series(series), need.flavour)
    return machine.nr_cpus


def _machine(name: str, folder: Path) -> str:
    """A machine's name, or its file, which is named from the folder of the test."""
    return str(folder / name) if name.endswith(".toml") else name


def source_variable(series: str) -> str:
    """What names the source of a series' kernel, e.g. POPCORN_SOURCE_3_2."""
    return f"POPCORN_SOURCE_{series.replace('.', '_')}"


def source_of(series: str) -> Path | None:
    """The source that the user names for a series' kernel."""
    named = os.environ.get(source_variable(series))
    return Path(named) if named else None


def lacking(series: str) -> str | None:
    """Why a series, or a mixture, cannot be tried here; None if it can.

    The default's base is fetched when it is not there.
    """
    from popcorn.build.series import load_series
    from popcorn.build.source import at_hand

    for one in series.split("+"):
        if one != EVERY_SERIES[0] and source_of(one) is None and not at_hand(load_series(one)):
            return (
                f"the source of Linux {one} is not at hand: `popcorn build kernel --series {one} --source TREE` "
                f"keeps it, or {source_variable(one)} names it"
            )
    return None
