# SPDX-License-Identifier: Apache-2.0
"""What the host must have installed, and installing it with Debian's apt.

A thing counts as there when its programs and files are, whoever put them
there, so that hosts of other distributions work too. The launcher uses this
module before any dependency is installed: only the standard library here.
"""

from __future__ import annotations

import functools
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from popcorn.errors import HostError

_INCLUDE_DIRS = ("/usr/include", "/usr/local/include", "/usr/include/x86_64-linux-gnu")


@dataclass(frozen=True)
class HostPackage:
    """A Debian package, what it is for, and how to see that what it brings is there.

    ``libraries`` are static archives that the C compiler must find; ``modules`` are Python's.
    """

    name: str
    purpose: str
    verbs: frozenset[str]
    programs: tuple[str, ...] = ()
    headers: tuple[str, ...] = ()
    libraries: tuple[str, ...] = ()
    modules: tuple[str, ...] = ()
    required: bool = True

    @property
    def is_there(self) -> bool:
        return (
            all(_program(name) for name in self.programs)
            and all(any(Path(base, name).exists() for base in _INCLUDE_DIRS) for name in self.headers)
            and all(_static_library(name) for name in self.libraries)
            and all(_python_module(name) for name in self.modules)
        )


_LAUNCH = frozenset({"launch", "demo", "test", "build", "up"})
_BUILD = frozenset({"build", "demo", "test", "kernel", "up"})
_RUN = frozenset({"demo", "test", "up"})
_VERIFY = frozenset({"kernel"})
_UNIT = frozenset({"test", "test unit"})

PACKAGES = (
    HostPackage("python3-venv", "the Python environment", _LAUNCH, modules=("venv", "ensurepip")),
    HostPackage("gcc", "compiling the kernel", _BUILD | _UNIT, programs=("gcc",)),
    HostPackage(
        "libc6-dev",
        "static programs for the guest",
        _BUILD | _UNIT,
        headers=("stdlib.h",),
        libraries=("libc.a",),
    ),
    HostPackage("binutils", "compiling the kernel", _BUILD, programs=("ld", "objcopy", "strip")),
    HostPackage("make", "compiling the kernel", _BUILD, programs=("make",)),
    HostPackage("flex", "the kernel's configuration", _BUILD, programs=("flex",)),
    HostPackage("bison", "the kernel's configuration", _BUILD, programs=("bison",)),
    HostPackage("bc", "compiling the kernel", _BUILD, programs=("bc",)),
    HostPackage("perl", "compiling the kernel", _BUILD, programs=("perl",)),
    HostPackage("cpio", "compiling the kernel", _BUILD, programs=("cpio",)),
    HostPackage("libelf-dev", "the kernel's objtool", _BUILD, headers=("libelf.h", "gelf.h")),
    HostPackage("git", "applying the kernel patches", _BUILD | _UNIT, programs=("git",)),
    HostPackage("patch", "applying patches", _BUILD, programs=("patch",)),
    HostPackage("tar", "unpacking sources", _BUILD, programs=("tar",)),
    HostPackage("xz-utils", "unpacking sources", _BUILD, programs=("xz",)),
    HostPackage("qemu-system-x86", "the emulated machine", _RUN, programs=("qemu-system-x86_64",)),
    HostPackage("vde2", "the switch between virtual machines", frozenset({"run vm", "test"}), programs=("vde_switch",)),
    HostPackage("spin", "checking the models of the protocols between kernels", _UNIT, programs=("spin",)),
    HostPackage("chromium", "looking at reports in a browser", _UNIT, programs=("chromium",), required=False),
    HostPackage("ccache", "building faster a second time", _BUILD, programs=("ccache",), required=False),
    HostPackage("sparse", "checking the kernel patches", _VERIFY, programs=("sparse",), required=False),
)


def missing(verb: str) -> list[HostPackage]:
    """The packages that a verb needs or would like, and that are not there."""
    return [package for package in PACKAGES if verb in package.verbs and not package.is_there]


def ensure(verb: str) -> None:
    """Install what a verb needs, saying so; quick when nothing is missing.

    Raises:
        HostError: something required is missing and cannot be installed; the hint is the command
            that installs it.
    """
    absent = missing(verb)
    if not absent:
        return
    required = [package for package in absent if package.required]
    prefix = _root_prefix(may_ask=bool(required))
    if prefix is None and not required:
        # `popcorn doctor` tells; every command would be tiresome.
        return
    for package in absent:
        wanted = "is missing" if package.required else "would be good to have"
        print(f"popcorn: {package.name} {wanted} ({package.purpose})", file=sys.stderr)
    if prefix is None:
        raise HostError(f"these packages are missing: {_names(required)}", hint=f"as root: {install_line(absent)}")
    try:
        _install(prefix, absent)
    except HostError:
        if required:
            raise
        return
    _forget()
    left = [package for package in required if not package.is_there]
    if left:
        raise HostError(
            f"installed, but still not found: {_names(left)}",
            hint="check the PATH; `popcorn doctor` shows what is missing",
        )


def install_line(packages: Iterable[HostPackage]) -> str:
    """The command that installs packages, for a person to type."""
    return f"apt-get install -y --no-install-recommends {_names(packages)}"


def _root_prefix(*, may_ask: bool) -> list[str] | None:
    """What to put before apt-get to run it as root; None if that is not possible here."""
    if shutil.which("apt-get") is None:
        return None
    environment = ["env", "DEBIAN_FRONTEND=noninteractive"]
    if os.geteuid() == 0:
        return environment
    if shutil.which("sudo") is None:
        return None
    if subprocess.run(["sudo", "-n", "true"], capture_output=True, check=False).returncode == 0:
        return ["sudo", *environment]
    if may_ask and sys.stdin.isatty():
        return ["sudo", *environment]
    return None


def _install(prefix: Sequence[str], packages: Sequence[HostPackage]) -> None:
    apt = [*prefix, "apt-get", "-q", "-o", "DPkg::Lock::Timeout=120", "-o", "Dpkg::Use-Pty=0"]
    install = [*apt, "install", "-y", "--no-install-recommends", *[package.name for package in packages]]
    if not any(Path("/var/lib/apt/lists").glob("*_Packages*")):
        _run([*apt, "update"])
    if _run(install) == 0:
        return
    # The lists may be older than what the archive still has.
    _run([*apt, "update"])
    status = _run(install)
    if status != 0:
        raise HostError(
            f"apt-get could not install {_names(packages)} (status {status}; its messages are above)",
            hint=f"as root: apt-get update && {install_line(packages)}",
        )


def _run(argv: Sequence[str]) -> int:
    # popcorn.process keeps the output to itself; here a person may have to type a password.
    print(f"popcorn: running {shlex.join(argv)}", file=sys.stderr)
    return subprocess.run(argv, stdout=sys.stderr.fileno(), check=False).returncode


def _names(packages: Iterable[HostPackage]) -> str:
    return " ".join(package.name for package in packages)


@functools.cache
def _program(name: str) -> bool:
    return shutil.which(name) is not None


@functools.cache
def _static_library(name: str) -> bool:
    """Whether the C compiler finds the library; it repeats the bare name when it does not."""
    if shutil.which("gcc") is None:
        return False
    asked = subprocess.run(["gcc", f"-print-file-name={name}"], capture_output=True, text=True, check=False)
    return "/" in asked.stdout


@functools.cache
def _python_module(name: str) -> bool:
    """Whether the Python that environments are made of has a module (Debian splits some off)."""
    base = Path(getattr(sys, "_base_executable", sys.executable))
    if base.resolve() == Path(sys.executable).resolve():
        import importlib.util

        return importlib.util.find_spec(name) is not None
    code = f"import importlib.util as u, sys; sys.exit(u.find_spec({name!r}) is None)"
    return subprocess.run([str(base), "-I", "-c", code], check=False).returncode == 0


def _forget() -> None:
    for remembered in (_program, _static_library, _python_module):
        remembered.cache_clear()
