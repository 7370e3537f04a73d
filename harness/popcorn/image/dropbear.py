# SPDX-License-Identifier: Apache-2.0
"""The guests' sshd: Debian's dropbear with Debian's patches, server only, static with musl.

Debian's own binary is linked with seven libraries: 7 MiB for each secondary kernel, where this one is a quarter of
a MiB. `tools/dropbear/localoptions.h` says what is left in.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

from popcorn.build.debsource import Source, build_step, fetch_source, unpack_source
from popcorn.build.kbuild import environment
from popcorn.build.store import get_or_build
from popcorn.dirs import cache_dir, source_root
from popcorn.files import sha256_file
from popcorn.image.musl import PLAIN, Musl, compiler_id, musl
from popcorn.process import require_program
from popcorn.progress import step

_RECIPE = 1
_NEED_BYTES = 64 << 20
# -O2 for the key exchange, most of a connection's time: a quarter faster than -Os, for 20 KiB.
_COMPILE = ("-O2", "-g0", "-ffunction-sections", "-fdata-sections", "-fno-asynchronous-unwind-tables", *PLAIN)
_LINK = ("-static", "-no-pie", "-s", "-Wl,--gc-sections", "-Wl,--build-id=none")
_CONFIGURE = (
    # A cross-compiler, as configure sees it: nothing that it compiles may run with the host's libc.
    "--host=x86_64-linux-musl",
    "--enable-bundled-libtom",
    # What it hardens needs the compiler's start files.
    *("--disable-harden", "--disable-zlib", "--disable-pam", "--disable-shadow", "--disable-loginfunc"),
    *("--disable-lastlog", "--disable-utmp", "--disable-utmpx", "--disable-wtmp", "--disable-wtmpx"),
    *("--disable-pututline", "--disable-pututxline"),
    # The host's libcrypt is of another libc.
    "ac_cv_lib_crypt_crypt=no",
    *("CC=gcc", "AR=ar", "RANLIB=ranlib", "STRIP=strip"),
)


def dropbear_program() -> Path:
    """The static dropbear, built when the store has none for these very inputs.

    Raises UserError (a full disk), HostError (no network, a tool missing, a compile error).
    """
    source = fetch_source("dropbear")
    options = source_root() / "tools" / "dropbear" / "localoptions.h"
    libc = musl()
    inputs: dict[str, object] = {
        "recipe": _RECIPE,
        "source": [source.version, source.sha256, source.debian_sha256],
        "options": sha256_file(options),
        "flags": [*_COMPILE, *_LINK, *_CONFIGURE],
        "musl": libc.sha256,
        "compiler": compiler_id(),
    }

    def build(staging: Path) -> None:
        with step(f"building dropbear {source.version}"):
            _build(staging, source, options, libc)

    return get_or_build("dropbear", inputs, build, need_bytes=_NEED_BYTES) / "dropbear"


def _build(staging: Path, source: Source, options: Path, libc: Musl) -> None:
    for program in ("gcc", "make", "patch", "tar"):
        require_program(program)
    log = cache_dir() / "logs" / "dropbear.log"
    log.unlink(missing_ok=True)
    with tempfile.TemporaryDirectory(dir=staging, prefix=".build-") as scratch:
        tree = Path(scratch)
        unpack_source(source, tree, debian_patches=True)
        shutil.copyfile(options, tree / "localoptions.h")
        flags = [
            f"CFLAGS={' '.join([*_COMPILE, *libc.compile])}",
            f"LDFLAGS={' '.join([*_LINK, *libc.link])}",
            f"LIBS={' '.join(libc.link_end)}",
        ]
        variables = environment()
        build_step("dropbear", [str(tree / "configure"), *_CONFIGURE, *flags], tree, variables, log)
        make = ["make", f"-j{len(os.sched_getaffinity(0))}", "PROGRAMS=dropbear", "dropbear"]
        build_step("dropbear", make, tree, variables, log)
        shutil.copy(tree / "dropbear", staging / "dropbear")
    shutil.copyfile(log, staging / "build.log")
