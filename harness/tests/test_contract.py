# SPDX-License-Identifier: Apache-2.0
"""All kernels see the memory that they share alike, whatever their series."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from series_files import series_files
from shared_region import contract_header

from popcorn.build.apply import apply_series
from popcorn.build.artifacts import KernelArtifact
from popcorn.build.git import linux_repository
from popcorn.build.series import load_series, series_names
from popcorn.build.source import at_hand, find_base
from popcorn.errors import UserError
from popcorn.machine.assemble import require_one_contract
from popcorn.machine.layout import Layout

HEADER = "include/uapi/linux/popcorn.h"
# As each kernel compiles its C.
STANDARDS = {"3.2": "gnu89", "6.12": "gnu11"}

Places = dict[str, int]
"""Offset of each field, and size of each structure."""


def structures(header: str) -> dict[str, list[str]]:
    """The fields of each structure that a header describes, by the harness's own reading."""
    ffi = Layout(header).ffi
    return {
        f"{kind} {name}": [field for field, _ in ffi.typeof(f"{kind} {name}").fields if field]
        for kind, names in zip(("struct", "union"), ffi.list_types()[1:], strict=True)
        for name in names
        if not name.startswith("$")
    }


def compiled(header: Path, flags: Sequence[str], scratch: Path) -> Places:
    """What the compiler makes of a header: the numbers are read out of its assembly, nothing is run."""
    names = []
    lines = [f'#include "{header}"', "#define tell(name, value) const unsigned long long name = (value)"]
    for structure, fields in structures(header.read_text()).items():
        for expression in [f"sizeof({structure})", *(f"__builtin_offsetof({structure}, {one})" for one in fields)]:
            lines.append(f"tell(tell_{len(names)}, {expression});")
            names.append(expression)
    source = scratch / "tell.c"
    source.write_text("\n".join(lines) + "\n")
    command = ["gcc", *flags, "-Wall", "-Werror", "-fno-zero-initialized-in-bss", "-S", "-o", "-", source]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found: Places = {}
    current = ""
    for line in done.stdout.splitlines():
        word, _, rest = line.strip().partition("\t")
        if line.startswith("tell_") and line.endswith(":"):
            current = names[int(line[len("tell_") : -1])]
        elif current and word in (".quad", ".zero"):
            found[current] = int(rest) if word == ".quad" else 0
            current = ""
    assert len(found) == len(names)
    return found


def read_by_the_harness() -> Places:
    """The same, as the harness reads the header that kexec brings along."""
    ffi = Layout(contract_header()).ffi
    places: Places = {}
    for structure, fields in structures(contract_header()).items():
        places[f"sizeof({structure})"] = ffi.sizeof(structure)
        places |= {f"__builtin_offsetof({structure}, {one})": ffi.offsetof(structure, one) for one in fields}
    return places


@pytest.mark.parametrize("series", sorted(STANDARDS))
def test_every_series_has_the_one_header(series: str, tmp_path: Path) -> None:
    assert (series_files(tmp_path / "tree", HEADER, series=series) / HEADER).read_text() == contract_header()


@pytest.mark.parametrize("series", sorted(STANDARDS))
def test_every_shared_structure_is_compiled_as_the_harness_reads_it(series: str, tmp_path: Path) -> None:
    header = series_files(tmp_path / "tree", HEADER, series=series) / HEADER
    seen = compiled(header, [f"-std={STANDARDS[series]}"], tmp_path)
    assert {"sizeof(struct popcorn_header)", "__builtin_offsetof(struct popcorn_msg_slot, ticket)"} & seen.keys()
    assert seen == read_by_the_harness()


@pytest.mark.usefixtures("users_cache")
@pytest.mark.parametrize("series", sorted(STANDARDS))
def test_every_shared_structure_is_the_same_with_the_headers_of_each_kernel(series: str, tmp_path: Path) -> None:
    chosen = load_series(series)
    named = os.environ.get(f"POPCORN_SOURCE_{series.replace('.', '_')}")
    if not named and not at_hand(chosen):
        pytest.skip(f"the source of Linux {series} is not at hand: build it once, or set POPCORN_SOURCE_3_2")
    base = find_base(chosen, Path(named) if named else None)
    tree = tmp_path / "linux"
    tree.mkdir()
    head = apply_series(base, chosen).head
    archive = subprocess.run(
        ["git", "archive", head, "include", "arch/x86/include"],
        cwd=linux_repository(), capture_output=True, check=True,
    )  # fmt: skip
    subprocess.run(["tar", "-x"], cwd=tree, input=archive.stdout, check=True)
    folders = [tree / name for name in ("arch/x86/include", "include", "arch/x86/include/uapi", "include/uapi")]
    folders = [*(folder for folder in folders if folder.is_dir()), _generated(folders, tmp_path / "generated")]
    includes = [word for folder in folders for word in ("-I", str(folder))]
    kernel = ["-nostdinc", "-D__KERNEL__", "-DCONFIG_64BIT", "-DCONFIG_X86_64", f"-std={STANDARDS[series]}"]
    assert compiled(tree / HEADER, [*kernel, *includes], tmp_path) == read_by_the_harness()


def _generated(folders: Sequence[Path], target: Path) -> Path:
    """What a kernel's build makes of headers that an architecture leaves to all: asm/X.h for asm-generic/X.h."""
    (target / "asm").mkdir(parents=True)
    own = {path.name for folder in folders for path in folder.glob("asm/*.h")}
    for folder in folders:
        for path in folder.glob("asm-generic/*.h"):
            if path.name not in own:
                (target / "asm" / path.name).write_text(f"#include <asm-generic/{path.name}>\n")
    return target


def test_every_series_of_the_project_is_compared() -> None:
    assert set(series_names()) == set(STANDARDS)


def artifact(folder: Path, release: str, version: int) -> KernelArtifact:
    folder.mkdir()
    header = folder / "popcorn.h"
    now = Layout(contract_header()).version
    before = f"#define POPCORN_VERSION\t\t{now}"
    text = contract_header()
    assert before in text
    header.write_text(text.replace(before, f"#define POPCORN_VERSION\t\t{version}"))
    nothing = folder / "nothing"
    return KernelArtifact(
        folder, release, release, "6.12", "default", nothing, nothing, nothing, nothing, nothing, header, None,
        nothing, {},
    )  # fmt: skip


def test_kernels_that_do_not_agree_on_the_memory_they_share_are_refused(tmp_path: Path) -> None:
    version = Layout(contract_header()).version
    new = artifact(tmp_path / "new", "6.12.1-popcorn", version)
    old = artifact(tmp_path / "old", "3.2.14-popcorn", version + 1)
    require_one_contract([new, new, replace(old, header=new.header)])
    require_one_contract([new, replace(old, header=None)])
    with pytest.raises(UserError, match=r"kernels 6\.12\.1-popcorn and 3\.2\.14-popcorn do not agree") as caught:
        require_one_contract([new, old])
    assert f"version {version} in the one and {version + 1} in the other" in str(caught.value)
