# SPDX-License-Identifier: Apache-2.0
"""The judgements that `popcorn kernel verify` rests on."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from popcorn.build import checkpatch
from popcorn.build.base import Base
from popcorn.build.basefile import IgnoredFinding
from popcorn.build.checks import Check, Verification
from popcorn.build.lint import (
    Finding,
    added,
    checkpatch_findings,
    compiler_warnings,
    not_ignored,
    patched_files,
    sparse_findings,
)
from popcorn.build.objcompare import compare_builds, first_difference
from popcorn.build.series import load_series
from popcorn.build.verify import code_of, record_tested

CHECKPATCH = """\
/x/0001-a.patch:45: WARNING:LINE_SPACING: Missing a blank line after declarations
0001-a.patch:60: CHECK:CAMELCASE: Avoid CamelCase: <popCorn>
0001-a.patch:61: ERROR:SPACING: space required before the open parenthesis '('
total: 1 errors, 1 warnings, 1 checks, 99 lines checked
"""

SPARSE = """\
  CHECK   ../kernel/popcorn/region.c
../kernel/popcorn/region.c:10:5: warning: symbol 'x' was not declared. Should it be static?
../include/linux/list.h:7:1: warning: something old
kernel/popcorn/region.c:12:9: error: incompatible types in comparison expression
  CC      kernel/popcorn/region.o
"""


def test_every_finding_of_checkpatch_is_read() -> None:
    found = checkpatch_findings(CHECKPATCH)
    assert [(f.file, f.line) for f in found] == [("0001-a.patch", 45), ("0001-a.patch", 60), ("0001-a.patch", 61)]
    assert found[1].said == "CHECK:CAMELCASE: Avoid CamelCase: <popCorn>"


def test_clean_patch_has_no_findings() -> None:
    assert checkpatch_findings("total: 0 errors, 0 warnings, 0 checks, 9 lines checked\n") == []


def test_sparse_counts_only_the_files_asked_for() -> None:
    assert [str(f) for f in sparse_findings(SPARSE, {"kernel/popcorn/region.c"})] == [
        "kernel/popcorn/region.c:10: warning: symbol 'x' was not declared. Should it be static?",
        "kernel/popcorn/region.c:12: error: incompatible types in comparison expression",
    ]


def test_a_kernel_that_names_its_sources_by_absolute_paths_is_read_alike() -> None:
    tree = Path("/cache/build/3.2")
    log = f"{tree}/kernel/a.c:3:7: warning: odd\n../kernel/a.c:4:1: warning: odder\n{tree}/kernel/b.c:1:1: warning: x\n"
    assert [str(one) for one in compiler_warnings(log, {"kernel/a.c"}, tree)] == [
        "kernel/a.c:3: warning: odd",
        "kernel/a.c:4: warning: odder",
    ]


def test_patches_of_an_old_kernel_are_checked_with_the_newest_checkpatch(monkeypatch: pytest.MonkeyPatch) -> None:
    old, new = Base("3.2.14", "there", "c", "t"), Base("6.12.117", "here", "d", "u")
    monkeypatch.setattr(checkpatch, "find_base", lambda series: {"6.12": new}[series.name])
    assert checkpatch.newest_base(load_series("3.2"), old) == new
    assert checkpatch.newest_base(load_series("6.12"), new) == new
    assert checkpatch.version_of("3.2") < checkpatch.version_of("3.14") < checkpatch.version_of("6.1")


def test_finding_that_only_moved_is_not_new() -> None:
    assert added([Finding("a.c", 5, "warning: w")], [Finding("a.c", 9, "warning: w")]) == []


def test_second_finding_of_the_same_kind_is_new() -> None:
    before = [Finding("a.c", 5, "warning: w")]
    after = [Finding("a.c", 9, "warning: w"), Finding("a.c", 12, "warning: w")]
    assert added(before, after) == [Finding("a.c", 12, "warning: w")]


def compiled(directory: Path, name: str, source: str) -> Path:
    if shutil.which("gcc") is None:
        pytest.skip("needs gcc")
    (directory / f"{name}.c").write_text(source)
    subprocess.run(["gcc", "-O1", "-c", f"{name}.c", "-o", f"{name}.o"], cwd=directory, check=True)
    return directory / f"{name}.o"


COUNTER = "static int {name}[4]; int f(int x) {{ return g({value}) + {name}[x]++; }}"


def source(name: str, value: int, prologue: str = "") -> str:
    return f"{prologue}int g(int); " + COUNTER.format(name=name, value=value)


def test_same_code_is_the_same_object(tmp_path: Path) -> None:
    assert first_difference(compiled(tmp_path, "a", source("n", 1)), compiled(tmp_path, "b", source("n", 1))) is None


def test_names_of_local_symbols_do_not_count(tmp_path: Path) -> None:
    one, other = compiled(tmp_path, "a", source("n_12", 1)), compiled(tmp_path, "b", source("n_13", 1))
    assert one.read_bytes() != other.read_bytes()
    assert first_difference(one, other) is None


def test_another_constant_is_a_difference(tmp_path: Path) -> None:
    one, other = compiled(tmp_path, "a", source("n", 1)), compiled(tmp_path, "b", source("n", 2))
    assert first_difference(one, other) == "bytes of section .text differ"


def test_call_of_another_function_is_a_difference(tmp_path: Path) -> None:
    one = compiled(tmp_path, "a", "int g(int); int f(int x) { return g(x) + 1; }")
    other = compiled(tmp_path, "b", "int h(int); int f(int x) { return h(x) + 1; }")
    assert first_difference(one, other) == "relocations of section .text differ"


def test_additional_section_is_a_difference(tmp_path: Path) -> None:
    one = compiled(tmp_path, "a", source("n", 1))
    other = compiled(tmp_path, "b", source("n", 1, '__attribute__((section(".odd"))) int odd = 1; '))
    difference = first_difference(one, other)
    assert difference is not None
    assert "new: .odd" in difference


def test_recorded_base_is_the_one_that_is_loaded(tmp_path: Path) -> None:
    (tmp_path / "series").write_text("")
    (tmp_path / "base.toml").write_text('# kept\nversion = "6.12"\ntested = "6.12.1"\ndebian = "d"\n')
    assert record_tested(load_series("x", tmp_path), "6.12.9")
    assert load_series("x", tmp_path).tested == "6.12.9"
    assert (tmp_path / "base.toml").read_text().startswith("# kept\n")
    assert not record_tested(load_series("x", tmp_path), "6.12.9")


def test_one_failed_check_fails_the_verification() -> None:
    passed = Check("applies", "series", True, "", 0.1, False)
    failed = Check("builds", "0001.patch", False, "", 0.1, False)
    assert Verification("6.12", "6.12.1", "6.12.1", [passed]).passed
    assert not Verification("6.12", "6.12.1", "6.12.1", [passed, failed]).passed


def built(directory: Path, value: int) -> Path:
    """An object directory as the kernel's build leaves it, with one object."""
    (directory / "arch/x86/kernel").mkdir(parents=True)
    (directory / "arch/x86/lib").mkdir()
    (directory / "lib").mkdir()
    (directory / "arch/x86/kernel/vmlinux.lds").write_text(f"# 1 {value}\nSECTIONS\n")
    compiled(directory, "a", source("n", value))
    for archive, members in (("vmlinux.a", ["a.o"]), ("lib/lib.a", []), ("arch/x86/lib/lib.a", [])):
        subprocess.run(["ar", "rcST", archive, *members], cwd=directory, check=True)
    return directory


def linked_as_of_old(directory: Path, value: int) -> Path:
    """An object directory as the build of a kernel without vmlinux.a leaves it."""
    built(directory, value)
    for archive in ("vmlinux.a", "lib/lib.a", "arch/x86/lib/lib.a"):
        (directory / archive).unlink()
    compiled(directory, "lib/b", source("m", 1))
    commands = {
        ".vmlinux.cmd": "ld -o vmlinux -T arch/x86/kernel/vmlinux.lds built-in.o --start-group lib/lib.a .tmp_syms.o",
        ".built-in.o.cmd": "ld -r -o built-in.o a.o",
        "lib/.lib.a.cmd": "rm -f lib/lib.a; ar rcs lib/lib.a lib/b.o",
    }
    for name, command in commands.items():
        (directory / name).write_text(f"cmd_x := {command}\n")
    return directory


def test_what_an_older_kernel_linked_is_found_by_its_commands(tmp_path: Path) -> None:
    one = linked_as_of_old(tmp_path / "one", 1)
    assert compare_builds(one, linked_as_of_old(tmp_path / "same", 1)).identical == 2
    assert compare_builds(one, linked_as_of_old(tmp_path / "other", 2)).differing == [
        "a.o: bytes of section .text differ"
    ]


def test_object_that_is_not_linked_does_not_count(tmp_path: Path) -> None:
    one, other = built(tmp_path / "one", 1), built(tmp_path / "other", 1)
    (one / "stale.o").write_text("of an earlier configuration")
    compared = compare_builds(one, other)
    assert (compared.identical, compared.differing) == (1, [])


def test_object_that_differs_is_named(tmp_path: Path) -> None:
    compared = compare_builds(built(tmp_path / "one", 1), built(tmp_path / "other", 2))
    assert compared.differing == ["a.o: bytes of section .text differ"]


_PATCH = """From 1 Mon Sep 17 00:00:00 2001
Subject: [PATCH] popcorn: {subject}

---
diff --git a/Documentation/popcorn.rst b/Documentation/popcorn.rst
--- a/Documentation/popcorn.rst
+++ b/Documentation/popcorn.rst
@@ -1 +1,2 @@
+{text}
diff --git a/kernel/popcorn/peer.c b/kernel/popcorn/peer.c
--- a/kernel/popcorn/peer.c
+++ b/kernel/popcorn/peer.c
@@ -1 +1,2 @@
+{code}
"""


def test_finding_is_ignored_in_the_one_file_for_which_it_is_named() -> None:
    patch = _PATCH.format(subject="s", text="t", code="c")
    lines = patch.splitlines()
    found = [
        Finding("0001-a.patch", lines.index(line) + 1, f"CHECK:{kind}: x")
        for line in ("Subject: [PATCH] popcorn: s", "+t", "+c")
        for kind in ("SPACING", "CAMELCASE")
    ]
    assert patched_files(patch) == ["Documentation/popcorn.rst", "kernel/popcorn/peer.c"]
    ignored = [IgnoredFinding(finding="SPACING", path="kernel/popcorn/peer.c", why="so")]
    assert not_ignored(found, patch, ignored) == [one for one in found if one != found[4]]
    assert not_ignored(found, patch, []) == found


@pytest.mark.parametrize(
    ("change", "same"), [({"subject": "better"}, True), ({"text": "told"}, True), ({"code": "int b;"}, False)]
)
def test_only_what_is_compiled_decides_whether_a_series_is_built_again(
    change: dict[str, str], same: bool, tmp_path: Path
) -> None:
    words = {"subject": "good", "text": "said", "code": "int a;"}
    for name, content in (("before", words), ("after", words | change)):
        (tmp_path / name).write_text(_PATCH.format(**content))
    assert (code_of(tmp_path / "before") == code_of(tmp_path / "after")) is same
