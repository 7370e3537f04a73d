# SPDX-License-Identifier: Apache-2.0
"""Finding the first error in a build's log."""

from __future__ import annotations

import pytest

from popcorn.build.buildlog import disk_was_full, first_error

COMPILER = """\
make: Entering directory '/x'
  CC      kernel/popcorn/region.o
In file included from ../include/linux/kernel.h:22,
                 from ../kernel/popcorn/region.c:3:
../kernel/popcorn/region.c: In function ‘popcorn_init’:
../kernel/popcorn/region.c:41:9: error: implicit declaration of function ‘foo’ [-Werror=implicit-function-declaration]
   41 |         foo();
      |         ^~~
../kernel/popcorn/region.c:50:1: error: second
  CC      kernel/fork.o
cc1: some warnings being treated as errors
make[4]: *** [../scripts/Makefile.build:229: kernel/popcorn/region.o] Error 1
make[3]: *** [../scripts/Makefile.build:478: kernel/popcorn] Error 2
make[3]: *** Waiting for unfinished jobs....
"""


def test_compilers_error_comes_with_its_place_and_context() -> None:
    error = first_error(COMPILER)
    assert error is not None
    assert (error.file, error.line) == ("kernel/popcorn/region.c", 41)
    assert error.said.startswith("implicit declaration of function ‘foo’")
    assert error.context[0].startswith("In file included from")
    assert "      |         ^~~" in error.context
    assert not any("kernel/fork.o" in line for line in error.context)


def test_context_is_about_ten_lines() -> None:
    log = "a.c:1:1: error: first\n" + "".join(f"   note {n}\n" for n in range(100))
    error = first_error(log)
    assert error is not None
    assert len(error.context) == 10


@pytest.mark.parametrize(
    ("log", "file", "line", "said"),
    [
        ("ld: kernel/fork.o: in function `f':\n"
         "../kernel/fork.c:12: undefined reference to `popcorn_x'\n"
         "make[2]: *** [../scripts/Makefile.vmlinux:34: vmlinux] Error 1\n",
         "kernel/fork.c", 12, "undefined reference to `popcorn_x'"),
        ("ld: kernel/fork.o:(.text+0x12): undefined reference to `popcorn_x'\n",
         "kernel/fork.o", 0, "undefined reference to `popcorn_x'"),
        ("../kernel/a.c:3:10: fatal error: linux/none.h: No such file or directory\n",
         "kernel/a.c", 3, "linux/none.h: No such file or directory"),
        ("../arch/x86/popcorn/t.S:9: Error: no such instruction: `foo %eax'\n",
         "arch/x86/popcorn/t.S", 9, "Error: no such instruction: `foo %eax'"),
        ("kernel/popcorn/Kconfig:7: syntax error\n", "kernel/popcorn/Kconfig", 7, "syntax error"),
        ("/bin/sh: 1: flex: not found\nmake[1]: *** [x:9: y] Error 127\n", "", 0, "/bin/sh: 1: flex: not found"),
        ("make[3]: *** No rule to make target 'kernel/popcorn/none.o', needed by 'kernel/popcorn/'.  Stop.\n",
         "", 0, "No rule to make target 'kernel/popcorn/none.o', needed by 'kernel/popcorn/'.  Stop."),
        ("make[4]: *** [../scripts/Makefile.build:229: a.o] Killed\n", "../scripts/Makefile.build", 229, "a.o] Killed"),
    ],
)  # fmt: skip
def test_error_is_found(log: str, file: str, line: int, said: str) -> None:
    error = first_error(log)
    assert error is not None
    assert (error.file, error.line, error.said) == (file.removeprefix("../"), line, said)


def test_cause_is_preferred_to_makes_echo_of_it() -> None:
    log = "make[4]: *** [x:1: a.o] Error 1\nb.c:7:1: error: real\n"
    error = first_error(log)
    assert error is not None
    assert error.file == "b.c"


def test_missing_source_is_preferred_to_makes_echo_of_it() -> None:
    log = (
        "make[5]: *** No rule to make target 'a/b.o', needed by 'a/built-in.a'.  Stop.\n"
        "make[4]: *** [../scripts/Makefile.build:471: a] Error 2\n"
    )
    error = first_error(log)
    assert error is not None
    assert "a/b.o" in error.said


def test_clean_log_holds_no_error() -> None:
    assert first_error("  CC      kernel/fork.o\n  LD      vmlinux\n") is None


def test_warning_is_no_error() -> None:
    assert first_error("a.c:1:1: warning: error: prone\n") is None


def test_full_disk_is_recognised() -> None:
    assert disk_was_full("as: kernel/fork.o: No space left on device\n")
    assert not disk_was_full(COMPILER)
