# SPDX-License-Identifier: Apache-2.0
"""Running the kernel's make: reproducibly, with ccache when it is there, telling the first error when it fails."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from popcorn.build.buildlog import FirstError, disk_was_full, first_error
from popcorn.build.disk import disk_full
from popcorn.build.workspace import interruptible
from popcorn.dirs import cache_dir
from popcorn.errors import HostError, PopcornError
from popcorn.process import Completed, require_program, run
from popcorn.progress import Step

# Kept out of the compiler's and make's sight; they would change what is built.
_HARMFUL = re.compile(
    r"(MAKE|KBUILD|KCONFIG|KCFLAGS|KAFLAGS|KCPPFLAGS|CFLAGS|LDFLAGS|CPATH|C_INCLUDE|LIBRARY_PATH|ARCH|CROSS|O$|V$)"
)

# Found by name: make begins anew where a compiler's path, that of another checkout, differs.
_PROGRAMS = Path(__file__).parent / "bin"

NEEDED_PROGRAMS = ("make", "gcc", "ld", "flex", "bison", "bc", "perl", "git", "objcopy")


class KernelBuildError(HostError):
    """make failed; the message holds the first error and the log's path."""

    def __init__(self, message: str, *, hint: str = "", first: FirstError | None = None) -> None:
        super().__init__(message, hint=hint)
        self.first = first
        """What the compiler said, if it was the compiler."""


@dataclass(frozen=True)
class Kbuild:
    """One object directory inside a source tree, and the log of what make does there."""

    objects: Path
    log: Path
    local_version: str = ""
    jobs: int = 0
    """At most so many compilers at once; 0 for as many as this process may use CPUs."""
    debug_info: bool = False
    """Have the compilers add debug information, which changes no instruction; asked of them, not of Kconfig, whose
    options for it change the kernel."""

    @property
    def tree(self) -> Path:
        return self.objects.parent

    def make(self, *arguments: str, step: Step | None = None, variables: Sequence[str] = ()) -> Completed:
        """Run make for some targets. Raises KernelBuildError, DiskFullError."""
        command: list[str | Path] = [
            "make",
            "-C",
            self.tree,
            f"O={self.objects}",
            *self._variables(),
            *variables,
            *arguments,
        ]
        done = self._run(command, step)
        if done.returncode != 0:
            raise self._failed(done)
        return done

    def script(self, *command: str | Path, config: Path) -> Completed:
        """Run one of the kernel's own scripts in the object directory on the configuration file `config`."""
        done = self._run(command, None, {"KCONFIG_CONFIG": str(config)})
        if done.returncode != 0:
            raise self._failed(done)
        return done

    def _run(self, command: Sequence[str | Path], step: Step | None, extra: dict[str, str] | None = None) -> Completed:
        count = 0

        def told(line: str) -> None:
            nonlocal count
            if step is not None and (found := re.match(r"  (?:CC|AS|LD|AR)\s+(\S+)", line)):
                count += 1
                step.update(f"{count}: {found.group(1)}")

        with interruptible(self.objects):
            return run(
                command, cwd=self.objects, env=environment() | (extra or {}), log=self.log, on_line=told, check=False
            )

    def _variables(self) -> list[str]:
        # The directory of the objects appears in assembler's debug information only, but there it does.
        prefix_map = f"-ffile-prefix-map={self.objects}=."
        if not re.search(r"^\s*srctree := \.\.$", (self.tree / "Makefile").read_text(), re.MULTILINE):
            # An older kernel, which names its sources by absolute paths; of two that fit, the last map counts.
            prefix_map = f"-ffile-prefix-map={self.tree}=.. {prefix_map}"
        flags = prefix_map + (" -g -gdwarf-4" if self.debug_info else "")
        return [
            f"-j{self.jobs or len(os.sched_getaffinity(0))}",
            "ARCH=x86_64",
            "CROSS_COMPILE=",
            f"CC={'cached-gcc' if shutil.which('ccache') else 'gcc'}",
            f"LOCALVERSION={self.local_version}",
            f"KCFLAGS={flags}",
            f"KAFLAGS={flags}",
            "KBUILD_BUILD_USER=popcorn",
            "KBUILD_BUILD_HOST=popcorn",
            "KBUILD_BUILD_VERSION=1",
            "KBUILD_BUILD_TIMESTAMP=Thu Jan  1 00:00:00 UTC 1970",
        ]

    def _failed(self, done: Completed) -> PopcornError:
        error = first_error(done.stdout)
        if disk_was_full(done.stdout):
            return disk_full(self.objects, "building a kernel")
        said = str(error) if error else f"{done.argv[0]} ended with status {done.returncode}"
        return KernelBuildError(f"the kernel does not build: {said}", hint=f"the whole log is {self.log}", first=error)


def environment() -> dict[str, str]:
    """What the compilers see of the environment: no variable that would change what they make."""
    kept = {name: value for name, value in os.environ.items() if not _HARMFUL.match(name)}
    wished = {
        "CCACHE_DIR": str(cache_dir() / "ccache"),
        "CCACHE_MAXSIZE": "5G",
    }
    needed = {
        "CCACHE_BASEDIR": str(cache_dir() / "build"),
        "CCACHE_NOHASHDIR": "1",
        "LC_ALL": "C",
        "TZ": "UTC",
        "PATH": f"{_PROGRAMS}:{kept.get('PATH', os.defpath)}",
    }
    return wished | kept | needed


def toolchain() -> dict[str, str]:
    """The programs whose version decides what a build's output is. Raises HostError when one is missing."""
    for program in NEEDED_PROGRAMS:
        require_program(program)
    return {
        program: run([program, "--version"], env=environment()).stdout.splitlines()[0].strip()
        for program in ("gcc", "ld")
    }
