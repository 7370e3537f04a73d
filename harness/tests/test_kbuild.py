# SPDX-License-Identifier: Apache-2.0
"""What make is told, on a tree whose Makefile tells it back."""

from __future__ import annotations

from pathlib import Path

import pytest

from popcorn.build.kbuild import Kbuild

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
