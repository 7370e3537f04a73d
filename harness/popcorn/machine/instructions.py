# SPDX-License-Identifier: Apache-2.0
"""Counting the instructions of an emulated machine's CPUs, by a plugin of QEMU: `tools/instruction-counter`.

The counters lie in a file that QEMU and we map. A guest marks a moment by ``popcorn-mark``, and all counters at that
moment are kept. With the plugin QEMU takes two to three times as long: no time that is measured beside it means
anything.
"""

from __future__ import annotations

import struct
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from popcorn.build.store import get_or_build
from popcorn.dirs import source_root
from popcorn.errors import HostError
from popcorn.files import sha256_tree
from popcorn.image.musl import compiler_id
from popcorn.machine.qemu import escaped, host_version
from popcorn.process import run
from popcorn.progress import step

_NAME = "instruction-counter"
_FLAGS = ("-std=gnu11", "-O2", "-Wall", "-Wextra", "-shared", "-fPIC", "-fvisibility=hidden", "-Wl,--build-id=none")
MARK_PROGRAM = "/usr/bin/popcorn-mark"
"""Where a guest has what marks a moment, if it counts."""
MARKS = 4096
"""So many moments fit in a file."""

# The file, in words of eight bytes: see the plugin's source.
_WORD = 8
_HEAD = struct.Struct("<8Q")
_CPU_BYTES = 64


def plugin(version: tuple[int, int] | None = None) -> Path:
    """The plugin, built for this host's QEMU.

    Args:
        version: of QEMU, if it is another one.

    Raises:
        HostError: there is no QEMU or no compiler, or it fails.
    """
    flags = [*_FLAGS, f"-DAPI_VERSION={api_version(version or host_version())}"]
    folder = source_root() / "tools" / _NAME

    def build(into: Path) -> None:
        with step(f"compiling {_NAME}"):
            run(["gcc", *flags, "-o", into / f"{_NAME}.so", f"{_NAME}.c"], cwd=folder)

    key = {"name": _NAME, "sources": sha256_tree(folder), "compiler": compiler_id(), "flags": flags}
    return get_or_build("plugin", key, build) / f"{_NAME}.so"


def api_version(version: tuple[int, int]) -> int:
    """Of QEMU's plugin interface, the version to build for: that of the QEMU, as far as it matters here."""
    if version < (9, 0):
        return 1
    return 2 if version < (9, 1) else 3


@dataclass(frozen=True)
class Mark:
    """A moment that a guest marked."""

    cpu: int
    """The CPU that did so, by its global number."""
    counts: tuple[int, ...]
    """How many instructions each CPU had begun."""


@dataclass(frozen=True)
class InstructionFile:
    """The counters of one machine."""

    path: Path
    cpus: int

    @classmethod
    def make(cls, path: Path, cpus: int) -> InstructionFile:
        """An empty one, for as many CPUs as the machine has."""
        with path.open("wb") as file:
            file.write(_HEAD.pack(cpus, MARKS, *[0] * 6))
            # What is not used costs nothing.
            file.truncate(_HEAD.size + cpus * _CPU_BYTES + MARKS * (2 + cpus) * _WORD)
        return cls(path, cpus)

    @property
    def qemu_options(self) -> tuple[str, ...]:
        """What has a QEMU count. Errors as of `plugin`."""
        return ("-plugin", f"{escaped(plugin())},counts={escaped(self.path)}")

    @property
    def marked(self) -> int:
        """How many moments were marked so far."""
        with self.path.open("rb") as file:
            return int(_HEAD.unpack(file.read(_HEAD.size))[2])

    def marks(self, since: int = 0) -> list[Mark]:
        """The moments that were marked so far, in their order.

        Args:
            since: leave so many out, the oldest ones.

        Raises:
            HostError: there were more than there is room for.
        """
        row = struct.Struct(f"<{2 + self.cpus}Q")
        begun = self.marked
        if begun > MARKS:
            raise HostError(f"{begun} moments were marked, and only {MARKS} can be kept", hint="count fewer trials")
        with self.path.open("rb") as file:
            file.seek(_HEAD.size + self.cpus * _CPU_BYTES + since * row.size)
            rows = [row.unpack(file.read(row.size)) for _ in range(since, begun)]
        return [Mark(cpu, tuple(counts)) for done, cpu, *counts in rows if done]


def between_marks(marks: list[Mark], cpus: Collection[int]) -> int | None:
    """Instructions of some CPUs between the last two moments that one of them marked; None if there are no two."""
    own = [mark for mark in marks if mark.cpu in cpus]
    if len(own) < 2:
        return None
    before, after = own[-2:]
    return sum(after.counts[cpu] - before.counts[cpu] for cpu in cpus)
