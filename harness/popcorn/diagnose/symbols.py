# SPDX-License-Identifier: Apache-2.0
"""The symbols of the builds that the kernels of a run are of."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path

from popcorn.build.debuginfo import build_debug_info, debug_info_of
from popcorn.build.kernel import build_kernel
from popcorn.diagnose.decode import SymbolMap, decoded
from popcorn.errors import UserError
from popcorn.machine.booted import BootedKernel, booted_kernels

_DEFAULT_SERIES = "6.12"


class Decoder:
    """Decodes what the kernels of one run printed."""

    def __init__(self, run_dir: Path, *, build: bool = False) -> None:
        """
        Args:
            build: whether to build debug information that the store does not have.
        """
        self._booted = booted_kernels(run_dir)
        self._build = build
        self.without_lines: set[BootedKernel] = set()
        """Builds of which debug information was wanted and is not there."""

    def decoded(self, id: int, lines: Sequence[str]) -> list[str]:
        """Lines that kernel ``id`` printed, with functions for bare addresses, and lines of source where known.

        Raises:
            UserError: debug information was to be built, and the build is not of the sources that are here.
            HostError: it cannot be built, or binutils are missing.
        """
        kernel = self._booted.get(id)
        symbols = _symbols(kernel.system_map) if kernel is not None else None
        if kernel is None or symbols is None:
            return list(lines)
        return decoded(lines, symbols, self._debug_info(kernel))

    def _debug_info(self, kernel: BootedKernel) -> Path | None:
        found = debug_info_of(kernel.key)
        if found is None and self._build:
            found = require_debug_info(kernel)
        if found is None:
            self.without_lines.add(kernel)
        return found


def require_debug_info(kernel: BootedKernel) -> Path:
    """The vmlinux with debug information of a build, built if the store does not have it.

    Raises:
        UserError: the build is not of the sources that are here.
        HostError: it cannot be built, or its code differs.
    """
    if found := debug_info_of(kernel.key):
        return found
    built = build_kernel(kernel.series, kernel.flavour)
    if built.key != kernel.key:
        raise UserError(
            f"the kernel {kernel.key[:8]} that was booted was built from other sources than those here, which give "
            f"{built.key[:8]}: its debug information cannot be made",
            hint="use the commit that it was built from, or boot what is here",
        )
    return build_debug_info(kernel.series, kernel.flavour)[1]


def build_line(kernel: BootedKernel) -> str:
    """The command that makes the debug information of a build."""
    series = "" if kernel.series == _DEFAULT_SERIES else f" --series {kernel.series}"
    flavour = "" if kernel.flavour == "default" else f" --flavour {kernel.flavour}"
    return f"popcorn build kernel --debug-info{series}{flavour}"


@functools.cache
def _symbols(system_map: Path) -> SymbolMap | None:
    try:
        return SymbolMap(system_map.read_text())
    except OSError:
        return None
