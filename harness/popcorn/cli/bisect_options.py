# SPDX-License-Identifier: Apache-2.0
"""The options of ``popcorn bisect``."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from popcorn.errors import UserError

_FOLDER = click.Path(path_type=Path, file_okay=False)


def _share(_context: click.Context, option: click.Parameter, text: str | None, most: float = 1.0) -> float | None:
    """A share between 0 and 1, written as such or as a percentage."""
    if text is None:
        return None
    try:
        share = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    except ValueError:
        share = -1.0
    what = "is no share" if not 0 < share <= 1 else "is not below one half" if share > most else ""
    if what:
        raise UserError(f"{option.opts[0]} {text} {what}", hint=f"write one between 0 and {most:g}, such as 0.01 or 1%")
    return share


def _small_share(context: click.Context, option: click.Parameter, text: str | None) -> float | None:
    """One at which runs tell something: who errs in every second answer asks nothing."""
    return _share(context, option, text, most=0.49)


def _seconds(_context: click.Context, option: click.Parameter, value: float) -> float:
    if not (math.isfinite(value) and value > 0):
        raise UserError(f"{option.opts[0]} {value:g} is no time", hint="write a number of seconds, such as 600")
    return value


_SPACE = (
    click.option("--good", metavar="A", help="The end without the failure.  [default: 0, before the first]"),
    click.option("--bad", metavar="B", help="The end with it.  [default: all]"),
    click.option("--patches", type=_FOLDER, metavar="DIR", help="Search patches on top of the series, or another one."),
    click.option("--tree", type=_FOLDER, metavar="GIT", help="Search the commits of a kernel's git tree."),
    click.option(
        "--fragment", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE", help="Search its options."
    ),
    click.option("--parameter", "parameters", multiple=True, metavar="NAME=VALUE", help="Search these, in order."),
    click.option("--series", default="6.12", show_default=True, help="Which kernel series."),
    click.option("--flavour", default="default", show_default=True, help="default or debug."),
    click.option("--source", type=click.Path(path_type=Path), metavar="TREE|TARBALL", help="Kernel source, instead."),
)
_TEST = (
    click.option("--test", metavar="EXPR", help="What pytest -k takes, on the suites; or a node id."),
    click.option("--command", metavar="SH", help="A shell command in a kernel; 0 passes, if no kernel crashes."),
    click.option("--kernel", type=int, metavar="ID", help="Which kernel runs it.  [default: the first secondary]"),
    click.option("--metric", metavar="NAME", help="A metric of `popcorn bench messages`."),
    click.option(
        "--worse",
        metavar="SHARE",
        callback=_share,
        default="10%",
        show_default=True,
        help="By how much it is worse at B.",
    ),
    click.option("--build", is_flag=True, help="Nothing but the build."),
    click.option(
        "--timeout", "timeout_s", default=600.0, show_default=True, callback=_seconds, help="Of one test, in seconds."
    ),
    click.option("--title", default="", metavar="REGEX", help="The failure.  [default: what B shows most]"),
)
_TERMS = (
    click.option(
        "--error",
        metavar="SHARE",
        callback=_small_share,
        default="1%",
        show_default=True,
        help="How likely the answer may be wrong.",
    ),
    click.option(
        "--alpha", metavar="SHARE", callback=_small_share, help="That it is a later change.  [default: half of --error]"
    ),
    click.option(
        "--beta", metavar="SHARE", callback=_small_share, help="That it is an earlier one.  [default: half of --error]"
    ),
    click.option(
        "--flaky-rate", "rate", metavar="SHARE", callback=_share, help="How often B fails.  [default: measured]"
    ),
    click.option(
        "--noise",
        metavar="SHARE",
        callback=_small_share,
        default="0.1%",
        show_default=True,
        help="How often A fails nevertheless.",
    ),
    click.option("--max-runs", default=200, show_default=True, type=click.IntRange(min=1), help="Of one candidate."),
)
_PLAN = (
    click.option("--machine", default="small", show_default=True, help="For --command: paper, small, or a TOML file."),
    click.option("--policy", default="per-core", show_default=True, help="Likewise, and the following."),
    click.option("--memory", default="numa", show_default=True, metavar="numa|flat"),
    click.option("--size", "sizes", multiple=True, metavar="[ID=]SIZE"),
    click.option("--device", "devices", multiple=True, metavar="NAME=ID"),
    click.option("--append", default="", metavar="TEXT"),
    click.option("--qemu-option", "qemu", multiple=True, metavar="WORD"),
    click.option("--accel", type=click.Choice(["auto", "kvm", "tcg"]), default="auto", show_default=True),
)


def bisect_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the options that say what is searched, by which test, on which terms and machine."""
    for option in reversed((*_SPACE, *_TEST, *_TERMS, *_PLAN)):
        command = option(command)
    return command
