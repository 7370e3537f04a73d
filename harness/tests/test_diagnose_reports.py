# SPDX-License-Identifier: Apache-2.0
"""Consoles of kernels in which faults were injected, as they were recorded, and what they are taken for.

The logs are trimmed: lines before and behind the reports were left out, and none was changed.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from popcorn.diagnose.console import Line, lives, parse_text, read_lines
from popcorn.diagnose.kinds import Kind
from popcorn.diagnose.reports import cause, find_reports
from popcorn.machine.timestamps import LineSplitter

RECORDED = Path(__file__).parent / "recorded" / "diagnose"

EXPECTED: dict[str, tuple[Kind, str]] = {
    "3.2-fine": (Kind.FINE, ""),
    "3.2-null-pointer": (Kind.OOPS, "NULL pointer dereference in sysrq_handle_crash"),
    "3.2-null-pointer-primary": (Kind.OOPS, "NULL pointer dereference in sysrq_handle_crash"),
    "3.2-out-of-memory": (Kind.OUT_OF_MEMORY, "out of memory"),
    "6.12-bug": (Kind.BUG, "BUG at drivers/popcorn/fault.c in fault_bug"),
    "6.12-bug-in-interrupt": (Kind.BUG, "BUG at drivers/popcorn/fault.c in bug_in_interrupt"),
    "6.12-double-fault": (Kind.OOPS, "double fault in lockdep_hardirqs_off"),
    "6.12-exec-null": (Kind.OOPS, "jump to nowhere in execute_location"),
    "6.12-fine": (Kind.FINE, ""),
    "6.12-hard-lockup": (Kind.HARD_LOCKUP, "hard lockup in lkdtm_HARDLOCKUP"),
    "6.12-hung-task": (Kind.HUNG_TASK, "hung task in lkdtm_HUNG_TASK"),
    "6.12-list-corruption": (Kind.BUG, "list_add corruption in lkdtm_CORRUPT_LIST_ADD"),
    "6.12-null-call": (Kind.OOPS, "jump to nowhere in fault_null_call"),
    "6.12-null-pointer": (Kind.OOPS, "NULL pointer dereference in fault_oops"),
    "6.12-oops-in-oops": (Kind.OOPS, "general protection fault"),
    "6.12-out-of-memory": (Kind.OUT_OF_MEMORY, "out of memory"),
    "6.12-out-of-memory-panic": (Kind.OUT_OF_MEMORY, "out of memory"),
    "6.12-panic": (Kind.PANIC, "panic: fault on request"),
    "6.12-panic-in-initcall": (Kind.PANIC, "panic: Could not create inet frag workq"),
    "6.12-panic-sysrq": (Kind.PANIC, "panic: sysrq triggered crash"),
    "6.12-soft-lockup": (Kind.SOFT_LOCKUP, "soft lockup in lkdtm_SOFTLOCKUP"),
    "6.12-stack-overflow-silent": (Kind.FINE, ""),
    "6.12-warning": (Kind.WARNING, "WARNING in fault_warn"),
    "6.12-warning-at-boot": (Kind.WARNING, "WARNING in topology_sane"),
}
FAULTS = sorted(name for name, (kind, _) in EXPECTED.items() if kind is not Kind.FINE)


def recorded(name: str) -> str:
    return (RECORDED / f"{name}.log").read_text(encoding="utf-8")


def found(lines: list[Line]) -> tuple[Kind, str]:
    """What the latest life on a console is taken for."""
    first = cause(find_reports(lives(lines)[-1]))
    return (first.kind, first.title) if first is not None else (Kind.FINE, "")


@pytest.mark.parametrize("name", sorted(EXPECTED))
def test_a_recorded_fault_gets_its_kind_and_title(name: str) -> None:
    assert found(parse_text(recorded(name))) == EXPECTED[name]


def test_every_recorded_console_has_an_expectation() -> None:
    assert {path.stem for path in RECORDED.glob("*.log")} == set(EXPECTED)


@pytest.mark.parametrize("name", FAULTS)
def test_titles_hold_nothing_that_differs_from_one_occurrence_to_the_next(name: str) -> None:
    _, title = EXPECTED[name]
    assert not re.search(r"\b0x|\b[0-9a-f]{8,}\b|\+|\bCPU\b|:\d", title)


def _header(text: str, name: str) -> int:
    """Number of the line in which the cause begins."""
    first = cause(find_reports(lives(parse_text(text))[-1]))
    assert first is not None
    return next(n for n, line in enumerate(text.splitlines()) if first.lines[0].text.strip() in line)


@pytest.mark.parametrize("name", FAULTS)
def test_a_console_that_ends_anywhere_in_the_report_is_of_the_same_kind(name: str) -> None:
    lines = recorded(name).splitlines()
    for end in range(_header(recorded(name), name) + 1, len(lines)):
        kind, title = found(parse_text("\n".join(lines[:end])))
        assert kind is EXPECTED[name][0], f"after {end} lines"
        assert EXPECTED[name][1].startswith(title.partition(" in ")[0]) or "jump to nowhere" in EXPECTED[name][1]


def test_what_comes_of_a_lost_report_says_so() -> None:
    text = recorded("6.12-bug-in-interrupt")
    rest = text[text.index("Kernel panic") - 17 :]
    assert found(parse_text(rest)) == (Kind.PANIC, "panic: Fatal exception in interrupt")


def test_an_oops_whose_first_line_was_lost_is_an_oops() -> None:
    text = recorded("6.12-null-pointer")
    rest = text[text.index("Oops: ") - 17 :]
    assert found(parse_text(rest)) == (Kind.OOPS, "Oops in fault_oops")


@pytest.mark.parametrize("name", FAULTS)
def test_what_programs_print_meanwhile_changes_nothing(name: str) -> None:
    """On lines of their own, and before a kernel's message on the same line."""

    def mixed(lines: list[str]) -> Iterator[str]:
        for number, line in enumerate(lines):
            if number % 3 == 0:
                yield "BUG: this program is fine, Kernel panic or not"
            yield f"/ # cat {line}" if number % 5 == 1 else line

    assert found(parse_text("\n".join(mixed(recorded(name).splitlines())))) == EXPECTED[name]


@pytest.mark.parametrize("name", FAULTS)
def test_what_other_cpus_of_the_kernel_print_meanwhile_changes_nothing(name: str) -> None:
    lines = recorded(name).splitlines()
    begin = _header(recorded(name), name)
    others = ["[    9.000000] net pcn0: link is up", "[    9.000001] random: crng init done"]
    mixed = [*lines[: begin + 1], others[0], *lines[begin + 1 : begin + 2], others[1], *lines[begin + 2 :]]
    assert found(parse_text("\n".join(mixed))) == EXPECTED[name]


@pytest.mark.parametrize("name", FAULTS)
def test_pieces_in_which_a_console_was_read_change_nothing(name: str) -> None:
    splitter, entries = LineSplitter(), []
    data = recorded(name).encode()
    for begin in range(0, len(data), 61):
        entries += splitter.feed(data[begin : begin + 61], 1.0) + splitter.flush()
    assert found(read_lines(entries)) == EXPECTED[name]


@pytest.mark.parametrize("name", FAULTS)
def test_a_second_boot_is_another_life_and_no_crash(name: str) -> None:
    both = lives(parse_text(recorded(name) + recorded("6.12-fine")))
    assert len(both) == 2
    first = cause(find_reports(both[0]))
    assert first is not None
    assert (first.kind, first.title) == EXPECTED[name]
    assert find_reports(both[1]) == []


def test_without_the_kernels_clock_on_the_lines_all_of_them_count() -> None:
    bare = re.sub(r"^\[ *\d+\.\d+\] ", "", recorded("6.12-null-pointer"), flags=re.MULTILINE)
    assert found(parse_text(bare)) == EXPECTED["6.12-null-pointer"]


def _followed(early: str, late: str, after_s: float) -> list[Line]:
    """A console with what another one's report says, so much later than the last line."""
    lines = parse_text(early)
    last_s = lines[-1].stamp_s or 0.0
    report = find_reports(parse_text(late))[0].lines
    begin_s = report[0].stamp_s or 0.0
    return lines + [replace(line, stamp_s=(line.stamp_s or 0.0) - begin_s + last_s + after_s) for line in report]


def test_a_warning_just_before_a_crash_is_its_cause_and_an_old_one_is_not() -> None:
    warning, oops = recorded("6.12-warning"), recorded("6.12-null-pointer")
    assert found(_followed(warning, oops, 2.0)) == EXPECTED["6.12-warning"]
    assert found(_followed(warning, oops, 200.0)) == EXPECTED["6.12-null-pointer"]


def test_a_crash_is_surer_than_memory_that_ran_out_before() -> None:
    memory, oops = recorded("6.12-out-of-memory"), recorded("6.12-null-pointer")
    assert found(_followed(memory, oops, 2.0)) == EXPECTED["6.12-null-pointer"]
