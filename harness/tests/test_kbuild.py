# SPDX-License-Identifier: Apache-2.0
"""What make is told, on a tree whose Makefile tells it back."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from popcorn.build.kbuild import Kbuild, environment

_MAKEFILE = """\
{}
told:
	@echo 'KCFLAGS=$(KCFLAGS)'
	@echo 'CROSS_COMPILE=$(CROSS_COMPILE)'
"""


def told(tree: Path, first_line: str) -> dict[str, str]:
    (tree / "obj").mkdir(parents=True)
    (tree / "Makefile").write_text(_MAKEFILE.format(first_line))
    lines = Kbuild(tree / "obj", tree / "log").make("-s", "told").stdout.splitlines()
    return dict(line.split("=", 1) for line in lines if "=" in line)


def test_no_place_of_the_cache_gets_into_a_kernel_that_names_its_sources_by_absolute_paths(tmp_path: Path) -> None:
    tree = tmp_path / "old"
    # The compiler goes by the last map that fits: what is in obj is in the tree as well.
    maps = [f"-ffile-prefix-map={tree}=..", f"-ffile-prefix-map={tree / 'obj'}=."]
    assert told(tree, "srctree := $(KBUILD_SRC)")["KCFLAGS"].split() == maps


def test_a_kernel_that_names_them_by_relative_paths_needs_one_map_less(tmp_path: Path) -> None:
    tree = tmp_path / "new"
    assert told(tree, "\tsrctree := ..")["KCFLAGS"].split() == [f"-ffile-prefix-map={tree / 'obj'}=."]


def test_a_compiler_that_a_vendors_tree_sets_is_not_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CROSS_COMPILE", "arm-")
    assert told(tmp_path / "tree", "CROSS_COMPILE ?= mips-")["CROSS_COMPILE"] == ""


@pytest.fixture(autouse=True)
def _private_ccache(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("CCACHE_")]:
        monkeypatch.delenv(name)


_needs_ccache = pytest.mark.skipif(shutil.which("ccache") is None, reason="ccache is not installed: nothing is kept")


def compiled(tree: Path, source: str) -> bytes:
    """What the compiler makes of a file of the tree, as Kbuild calls it."""
    (tree / "obj").mkdir(exist_ok=True)
    (tree / "Makefile").write_text(f"all:\n\t$(CC) -Wp,-MMD,obj/made.d $(KCFLAGS) -c -o obj/made.o {source}\n")
    Kbuild(tree / "obj", tree / "log").make("all")
    return (tree / "obj" / "made.o").read_bytes()


def hits() -> int:
    """How often ccache had an object so far."""
    said = subprocess.run(["ccache", "--print-stats"], env=environment(), capture_output=True, text=True, check=True)
    counts = dict(line.split("\t") for line in said.stdout.splitlines())
    return int(counts["direct_cache_hit"]) + int(counts["preprocessed_cache_hit"])


def _write_long_ago(path: Path, text: str) -> None:
    path.write_text(text)
    # What has just been written may be written to again within the same tick of the clock: ccache leaves it alone.
    os.utime(path, (1, 1))


@_needs_ccache
@pytest.mark.parametrize("source", ["in.c", "in.S"])
def test_the_same_is_compiled_once_and_what_it_includes_counts(tmp_path: Path, source: str) -> None:
    _write_long_ago(
        tmp_path / source, '#include "in.h"\n' + ("int word = WORD;\n" if source == "in.c" else ".long WORD\n")
    )
    _write_long_ago(tmp_path / "in.h", "#define WORD 0x11223344\n")
    first = compiled(tmp_path, source)
    assert hits() == 0
    assert compiled(tmp_path, source) == first
    assert hits() == 1
    _write_long_ago(tmp_path / "in.h", "#define WORD 0x55667788\n")
    assert bytes.fromhex("88776655") in compiled(tmp_path, source)


@_needs_ccache
@pytest.mark.parametrize(("source", "text"), [("in.c", 'asm(".incbin \\"data\\"");\n'), ("in.S", '.incbin "data"\n')])
@pytest.mark.parametrize("link", [False, True])
def test_what_the_assembler_reads_counts_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str, text: str, link: bool
) -> None:
    if link:
        # As /usr/lib/ccache has them.
        (tmp_path / "links").mkdir()
        (tmp_path / "links" / "gcc").symlink_to(shutil.which("ccache") or "")
        monkeypatch.setenv("PATH", f"{tmp_path / 'links'}:{os.environ['PATH']}")
    _write_long_ago(tmp_path / source, text)
    for word in ("what was there", "what is there"):
        _write_long_ago(tmp_path / "data", word)
        assert word.encode() in compiled(tmp_path, source)
