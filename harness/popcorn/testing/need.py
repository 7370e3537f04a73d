# SPDX-License-Identifier: Apache-2.0
"""What a test wants booted, as its markers say it."""

from __future__ import annotations

import os
from dataclasses import astuple, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

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
    if unknown := marker.kwargs.keys() - _OPTIONS:
        raise pytest.UsageError(
            f"{item.nodeid}: the marker machine takes {', '.join(sorted(_OPTIONS))}, not {', '.join(sorted(unknown))}"
        )
    options: dict[str, Any] = dict(marker.kwargs)
    if item.get_closest_marker("kvm") is not None:
        options["accel"] = "kvm"
    if isinstance(options.get("series"), tuple):
        options["series"] = item.callspec.params["series"]  # type: ignore[attr-defined]
    if "series" in options:
        options["series"], _, secondaries = options["series"].partition("+")
        options["secondary_series"] = secondaries or options["series"]
    return Need(_machine(marker.args[0] if marker.args else "small", item.path.parent), **options)


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
