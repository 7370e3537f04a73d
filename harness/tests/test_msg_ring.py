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
from users_cache import users_cache_taken

from popcorn.build.store import get_or_build
from popcorn.files import sha256_file

SOURCES = Path(__file__).resolve().parent / "msg_ring"
THREAD = "thread"
ADDRESS = "address,undefined"
_OPTIONS = ["-O2", "-g", "-Wall", "-Wextra", "-Werror", "-pthread", "-fno-sanitize-recover=all"]
ADDR_NO_RANDOMIZE = 0x0040000  # of personality(2)


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The stress test by the sanitizers that it is compiled with; once, as long as nothing of it changes."""
    where = tmp_path_factory.mktemp("msg_ring")
    headers = [where / "include" / name for name in ("popcorn/msg_ring.h", "uapi/linux/popcorn.h")]
    series_files(where, *(path.relative_to(where).as_posix() for path in headers))
    own = sorted(path for path in SOURCES.rglob("*") if path.is_file())
    inputs = {
        "sources": [[path.name, sha256_file(path)] for path in (*headers, *own)],
        "compiler": subprocess.run(["gcc", "--version"], check=True, capture_output=True, text=True).stdout,
        "options": _OPTIONS,
    }

    def build(into: Path) -> None:
        for sanitizers in (THREAD, ADDRESS):
            argv = ["gcc", *_OPTIONS, f"-fsanitize={sanitizers}", "-o", into / sanitizers]
            argv += ["-I", SOURCES, "-I", where / "include", *sorted(SOURCES.glob("*.c"))]
            subprocess.run(argv, check=True)

    with users_cache_taken():
        entry = get_or_build("msg-ring-stress", inputs, build)
    return {sanitizers: entry / sanitizers for sanitizers in (THREAD, ADDRESS)}


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
