# SPDX-License-Identifier: Apache-2.0
"""Promela models of the protocols between kernels, checked by spin in all interleavings.

A model is checked as it is, and with each of its negative controls, macros that take something away: an error must be
found then, so that no property holds because nothing happens.
"""

from __future__ import annotations

import functools
import re
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from series_files import series_files
from users_cache import REMEMBERED

from popcorn.build.kbuild import environment
from popcorn.build.store import get_or_build
from popcorn.dirs import source_root
from popcorn.files import sha256_file
from popcorn.testing.switches import slow

MODELS = source_root() / "kernel-patches" / "models"

_CC = ["ccache", "gcc"] if shutil.which("ccache") else ["gcc"]

_REPORT = "report"

# How large; what takes part. All other macros of a model are controls.
SIZES = {"SLOTS", "WRITERS", "MESSAGES", "DEATHS", "TRIES"}
PARTS = {"POLLER", "BULK"}

RUNS = [
    # Everybody dies once, at each step, and lives again or not.
    ("msg.pml", ()),
    ("msg.pml", ("BULK",)),
    ("msg.pml", ("POLLER", "WRITERS=1")),
    ("maps.pml", ()),
    ("owned.pml", ()),
]
# -E: its processes end wherever they are stopped, and it asserts itself what has to be done then.
_OPTIONS = {"launch.pml": ("-E",), "owned.pml": ("-E",)}
# Where what one kernel may do is written once and others do a part of it.
RUNS_IN_PART = [("launch.pml", ())]
# Without deaths, for the sake of time.
RUNS_OF_LIVE_WRITERS = [
    ("msg.pml", ("WRITERS=3", "MESSAGES=1", "DEATHS=0")),
    ("msg.pml", ("POLLER", "MESSAGES=1", "DEATHS=0")),
]
CONTROLS = [
    *(
        ("msg.pml", (control,))
        for control in ("PUBLISH_FIRST", "TAIL_FIRST", "SKIP_LIVE", "NO_RECHECK", "NO_MB", "NO_RESCUE")
    ),
    *(("msg.pml", ("POLLER", control)) for control in ("TRYLOCK", "NO_AWAIT_END")),
    *(("msg.pml", ("BULK", control)) for control in ("NO_SWEEP", "SWEEP_ALL")),
    *(("launch.pml", (control,)) for control in ("NO_SETTLE", "NO_STOPPING", "ONE_PASS", "EAGER")),
    *(("maps.pml", (control,)) for control in ("NO_BEGIN_MB", "NO_SECOND_LOOK", "NO_SYNC", "NO_WAIT", "RANGE_FIRST")),
    *(("owned.pml", (control,)) for control in ("NO_ODD", "NO_AGAIN", "EVEN", "TORN")),
]


@dataclass(frozen=True)
class Verdict:
    """What spin found."""

    report: str

    @property
    def errors(self) -> int:
        found = re.search(r"errors: (\d+)$", self.report, re.MULTILINE)
        assert found, self.report
        return int(found[1])

    @property
    def complete(self) -> bool:
        """Whether all states were looked at."""
        return not re.search(r"Search not completed|max search depth too small", self.report)

    @property
    def unreached(self) -> list[str]:
        """Statements that were never executed; that processes end is not one."""
        return re.findall(r'^\t.*, state \d+, "(?!-end-)(.*)"$', self.report, re.MULTILINE)


Check = Callable[[str, tuple[str, ...]], Verdict]


@functools.cache
def _tools() -> list[str]:
    """What a report depends on beside model, macros and options."""
    return [
        subprocess.run([tool, option], capture_output=True, text=True, check=True).stdout.splitlines()[0]
        for tool, option in (("spin", "-V"), ("gcc", "--version"))
    ]


# Assertions and deadlocks. All states are kept, compressed.
_COMPILED = ("-w", "-DSAFETY", "-DCOLLAPSE", "-DMEMLIM=2000")


def _optimized(run: tuple[str, tuple[str, ...]]) -> str:
    """Where the search takes longer than to compile it well; half a second is the usual search, three the compiler."""
    return "-O2" if run in RUNS or run in RUNS_OF_LIVE_WRITERS else "-O0"


@pytest.fixture
def check(users_cache: None, record_property: Callable[[str, object], None], tmp_path: Path) -> Check:
    """Have spin look at every state of a model.

    The same model, searched in the same way by the same tools, has the same report: it is kept in the user's cache.
    """

    def check(model: str, macros: tuple[str, ...]) -> Verdict:
        # -m: the depth; no run is half as deep.
        options = ("-m1000", *_OPTIONS.get(model, ()))
        compiled = (_optimized((model, macros)), *_COMPILED)
        asked = {"model": sha256_file(MODELS / model), "macros": macros, "compiled": compiled, "options": options}
        searched = False

        def search(into: Path) -> None:
            nonlocal searched
            searched = True
            verdict = searched_states(model, macros, compiled, options, tmp_path)
            # A search that was cut short, by an error of its own or for lack of memory, is tried again.
            assert verdict.errors or verdict.complete, verdict.report
            (into / _REPORT).write_text(verdict.report)

        anew = slow()
        entry = get_or_build("model-report", {**asked, "tools": _tools()}, search, rebuild=anew)
        if not searched:
            record_property(REMEMBERED, "search of a model")
        return Verdict((entry / _REPORT).read_text())

    return check


def searched_states(
    model: str, macros: tuple[str, ...], compiled: tuple[str, ...], options: tuple[str, ...], place: Path
) -> Verdict:
    # What spin writes names the file: as here, it is the same in all checkouts, and compiled once.
    shutil.copy(MODELS / model, place)
    subprocess.run(["spin", "-a", *(f"-D{macro}" for macro in macros), model], cwd=place, check=True)
    subprocess.run([*_CC, *compiled, "-c", "pan.c"], cwd=place, env=environment(), check=True)
    subprocess.run([*_CC, "-o", "pan", "pan.o"], cwd=place, env=environment(), check=True)
    done = subprocess.run(["./pan", *options], cwd=place, capture_output=True, text=True, check=False)
    return Verdict(done.stdout)


def named(run: tuple[str, tuple[str, ...]]) -> str:
    return "-".join((run[0], *run[1]))


@pytest.mark.parametrize("run", RUNS, ids=named)
def test_a_model_holds_in_all_its_states(run: tuple[str, tuple[str, ...]], check: Check) -> None:
    verdict = check(*run)
    assert verdict.errors == 0, verdict.report
    assert verdict.complete, verdict.report
    assert verdict.unreached == []


@pytest.mark.parametrize("run", [*RUNS_OF_LIVE_WRITERS, *RUNS_IN_PART], ids=named)
def test_a_model_holds_in_part(run: tuple[str, tuple[str, ...]], check: Check) -> None:
    verdict = check(*run)
    assert verdict.errors == 0, verdict.report
    assert verdict.complete, verdict.report


@pytest.mark.parametrize("run", CONTROLS, ids=named)
def test_what_is_taken_away_is_missed(run: tuple[str, tuple[str, ...]], check: Check) -> None:
    verdict = check(*run)
    assert verdict.errors == 1
    assert "assertion violated" in verdict.report


@pytest.mark.parametrize("model", sorted(path.name for path in MODELS.glob("*.pml")))
def test_every_control_of_a_model_is_tried(model: str) -> None:
    text = (MODELS / model).read_text()
    asked = re.findall(r"^#\s*(?:if|ifdef|ifndef|elif)\b(.*)$", text, re.MULTILINE)
    macros = {name for condition in asked for name in re.findall(r"\b[A-Z][A-Z_]+\b", condition)}
    defined = set(re.findall(r"^#define (\w+)$", text, re.MULTILINE))
    tried = {macro for name, macros in CONTROLS if name == model for macro in macros}
    assert macros - defined - SIZES - PARTS == tried - PARTS


def test_model_and_code_name_the_same_steps(tmp_path: Path) -> None:
    header = series_files(tmp_path, "include/popcorn/msg_ring.h") / "include/popcorn/msg_ring.h"
    named_in_code = [
        name
        for line in re.findall(r"^ \*\t(?:writer|reader)\t(.*)$", header.read_text(), re.MULTILINE)
        for name in re.findall(r"\b[A-Z]+\b", line)
    ]
    modelled = re.findall(r"^inline ([A-Z]+)\(", (MODELS / "msg.pml").read_text(), re.MULTILINE)
    assert sorted(modelled) == sorted(named_in_code)
    assert len(modelled) > 1
