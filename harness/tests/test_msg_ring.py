# SPDX-License-Identifier: Apache-2.0
"""The kernel's own msg_ring.h under threads that write, read, die and corrupt."""

from __future__ import annotations

import ctypes
import json
import os
import subprocess
from pathlib import Path

import pytest
from series_files import series_files

SOURCES = Path(__file__).resolve().parent / "msg_ring"
THREAD = "thread"
ADDRESS = "address,undefined"
ADDR_NO_RANDOMIZE = 0x0040000  # of personality(2)


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The stress test by the sanitizers that it is compiled with."""
    where = tmp_path_factory.mktemp("msg_ring")
    series_files(where, "include/popcorn/msg_ring.h", "include/uapi/linux/popcorn.h")
    programs = {sanitizers: where / f"stress-{sanitizers}" for sanitizers in (THREAD, ADDRESS)}
    for sanitizers, program in programs.items():
        subprocess.run(
            [
                *("gcc", "-O2", "-g", "-Wall", "-Wextra", "-Werror", "-pthread", "-o", program),
                *(f"-fsanitize={sanitizers}", "-fno-sanitize-recover=all"),
                *("-I", SOURCES, "-I", where / "include", *sorted(SOURCES.glob("*.c"))),
            ],
            check=True,
        )
    return programs


def stress(program: Path, mode: str, seed: int) -> subprocess.CompletedProcess[str]:
    """Run it. What a sanitizer finds is a failure as well."""
    libc = ctypes.CDLL(None)
    return subprocess.run(
        [program, mode, str(seed)],
        capture_output=True,
        text=True,
        check=False,
        # Looking for leaks needs ptrace, which containers may forbid; nothing is allocated.
        env={**os.environ, "ASAN_OPTIONS": "detect_leaks=0"},
        # Where addresses are random in many bits, the thread sanitizer does not start.
        preexec_fn=lambda: libc.personality(ADDR_NO_RANDOMIZE),
    )


@pytest.mark.parametrize("seed", [1, 2, 3])
@pytest.mark.parametrize("sanitizers", [THREAD, ADDRESS])
def test_nothing_is_lost_or_torn_though_writers_die(programs: dict[str, Path], sanitizers: str, seed: int) -> None:
    done = stress(programs[sanitizers], "honest", seed)
    assert done.returncode == 0, done.stderr
    counted = json.loads(done.stdout)
    assert counted["received"] > 1000
    assert counted["skipped"] > 100
    assert counted["corrupt"] == 0


@pytest.mark.parametrize("seed", [1, 2, 3, 4, 5])
def test_all_is_well_again_after_the_rings_were_overwritten(programs: dict[str, Path], seed: int) -> None:
    # Not for the thread sanitizer: overwriting is the race that it looks for.
    done = stress(programs[ADDRESS], "corrupt", seed)
    assert done.returncode == 0, done.stderr
    counted = json.loads(done.stdout)
    assert counted["received"] > 1000
    assert counted["corrupt"] > 100


@pytest.mark.parametrize("mistake", ["skip-live", "publish-first"])
def test_the_stress_test_finds_a_mistake(programs: dict[str, Path], mistake: str) -> None:
    done = stress(programs[ADDRESS], mistake, 1)
    assert done.returncode == 1
    assert done.stderr.startswith("stress: ")
