# SPDX-License-Identifier: Apache-2.0
"""MPI for guests: Debian's MPICH, an ssh client for its launcher, and the NAS benchmarks compiled for it.

Nothing of it is in an image, nor installed on the host: an experiment adds it to the kernels of its boots. Tried with
MPICH 4.0 of Debian 12, which talks by UCX.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path

from popcorn.build import apt
from popcorn.build.store import get_or_build
from popcorn.dirs import source_root
from popcorn.errors import HostError
from popcorn.files import sha256_file, sha256_tree
from popcorn.image.debian import LIBRARY_FOLDER, PACKAGES, Wanted, debian_files, debian_overlay
from popcorn.image.musl import compiler_id
from popcorn.process import run
from popcorn.progress import step

MPIEXEC = "/usr/bin/mpiexec"
NPB_MPI = "/usr/bin/npb-mpi"
SSH_CLIENT = "/usr/bin/dbclient"

_LIBRARY = "libmpich.so.12"
_FORTRAN_LIBRARY = "libmpichfort.so.12"
_HEADERS = "/usr/include/x86_64-linux-gnu/mpich"
_SHARED = ("is-keys.c", "cg-matrix.c", "ft-lines.c", "memory.c")
"""Of the benchmarks with threads."""
_FLAGS = ["-std=gnu11", "-Wall", "-Wextra", "-O2", "-s", "-Wl,--build-id=none"]


def _runtime() -> Wanted:
    return {
        "mpich": {"/usr/bin/mpiexec.hydra": MPIEXEC, "/usr/bin/hydra_pmi_proxy": "/usr/bin/hydra_pmi_proxy"},
        _library_package(): {f"/usr{LIBRARY_FOLDER}/{_LIBRARY}": f"{LIBRARY_FOLDER}/{_LIBRARY}"},
        "dropbear-bin": {"/usr/bin/dbclient": SSH_CLIENT},
    }


def _fortran() -> Wanted:
    library = f"{LIBRARY_FOLDER}/{_FORTRAN_LIBRARY}"
    return {_library_package(): {f"/usr{library}": library}}


@functools.cache
def _library_package() -> str:
    # Renamed in Debian 13, with all whose times have 64 bits.
    renamed = "libmpich12t64"
    return renamed if apt.candidate(renamed) is not None else "libmpich12"


@dataclass(frozen=True)
class Mpich:
    """Debian's MPICH, unpacked in the store."""

    runtime: Path
    headers: Path
    fortran: Path

    @property
    def include(self) -> Path:
        return self.headers / "root" / _HEADERS.lstrip("/")

    @property
    def library(self) -> Path:
        return _below(self.runtime, _LIBRARY)

    @property
    def versions(self) -> list[str]:
        """What tells it from another one."""
        return [sha256_file(one / PACKAGES) for one in (self.runtime, self.headers, self.fortran)]

    def put_beside(self, folder: Path) -> None:
        """Make a folder with what programs are linked with: include/, lib/*, and fortran/* before that.

        Raises HostError when the compiler fails.
        """
        for name in ("lib", "fortran"):
            (folder / name).mkdir(parents=True)
        (folder / "include").symlink_to(self.include)
        (folder / "lib" / _LIBRARY).symlink_to(self.library)
        (folder / "fortran" / _FORTRAN_LIBRARY).symlink_to(_below(self.fortran, _FORTRAN_LIBRARY))
        # Its MPI_Finalize takes the place of the library's.
        for source in finalize_sources():
            flags = ["-O2", "-I", str(source.parent.parent / "npb"), "-I", str(self.include)]
            run(["gcc", "-c", *flags, "-o", folder / "lib" / f"{source.stem}.o", source])


def mpich() -> Mpich:
    """MPICH for compiling. Raises HostError when a package cannot be fetched."""
    headers = debian_files({"libmpich-dev": {_HEADERS: _HEADERS}})
    return Mpich(debian_files(_runtime()), headers, debian_files(_fortran()))


def finalize_sources() -> list[Path]:
    """The MPI_Finalize of our own, for programs that are not ours."""
    return [source_root() / "testsuites" / "npb-mpi" / name for name in ("await.c", "finalize.c")]


def mpi_files() -> dict[str, tuple[bytes, int]]:
    """All that a kernel needs to run the benchmarks: path to content and permissions.

    Raises HostError when a package cannot be fetched or the compiler fails.
    """
    return {**debian_overlay(_runtime()), NPB_MPI: (npb_mpi_program().read_bytes(), 0o755)}


def mpi_fortran_files() -> dict[str, tuple[bytes, int]]:
    """What programs in Fortran need beside that. Errors likewise."""
    return debian_overlay(_fortran())


def npb_mpi_program() -> Path:
    """The NAS benchmarks of `testsuites/npb-mpi/`, linked with the MPICH that `mpi_files` brings. Errors likewise."""
    folder = source_root() / "testsuites" / "npb-mpi"
    runtime = mpich()
    sources = sorted(folder.glob("*.c"))
    if not sources:
        raise HostError(f"{folder} holds no C file", hint="install Popcorn again, or run it from a checkout")
    inputs = {
        "name": "npb-mpi",
        "sources": [sha256_tree(folder), sha256_tree(folder.parent / "npb")],
        "debian": runtime.versions,
        "compiler": compiler_id(),
        "flags": _FLAGS,
    }

    def build(into: Path) -> None:
        with step("compiling npb-mpi"):
            # Relative names, so that the place of the checkout does not get into the program.
            files = [*(source.name for source in sources), *(f"../npb/{name}" for name in _SHARED)]
            # What the library itself needs is not looked for on the host.
            link = [str(runtime.library), "-Wl,--allow-shlib-undefined", "-lm"]
            compile = ["gcc", *_FLAGS, "-I../npb", "-I", str(runtime.include), "-o", str(into / "npb-mpi")]
            run([*compile, *files, *link], cwd=folder)

    return get_or_build("program", inputs, build) / "npb-mpi"


def _below(fetched: Path, library: str) -> Path:
    return fetched / "root" / LIBRARY_FOLDER.lstrip("/") / library
