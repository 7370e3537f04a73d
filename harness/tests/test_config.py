# SPDX-License-Identifier: Apache-2.0
"""Machines and their descriptions."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from popcorn.config import Machine, load_machine
from popcorn.config.sizes import GIB, KIB, MIB, format_size, kernel_size, parse_size
from popcorn.config.toml import line_of, parse_toml
from popcorn.errors import UserError

SMALL = """\
name = "mine"
sockets = 2
cores = 2

[[nodes]]
cpus = "0-1"
memory = "1GiB"

[[nodes]]
cpus = "2-3"
memory = "1GiB"
"""


def described(text: str) -> Machine:
    return parse_toml(text, Machine, "mine.toml")


def test_the_papers_machine_has_four_sockets_of_two_dies_of_six_cores() -> None:
    machine = load_machine("paper")
    assert machine.nr_cpus == 48
    assert machine.memory_bytes == 64 * GIB
    assert [machine.node_of(cpu) for cpu in (0, 5, 6, 47)] == [0, 0, 1, 7]
    assert [machine.socket_of(cpu) for cpu in (0, 11, 12, 47)] == [0, 0, 1, 3]


def test_apic_ids_leave_room_for_a_power_of_two_at_each_level() -> None:
    machine = load_machine("paper")
    ids = [machine.apic_id(cpu) for cpu in range(48)]
    assert ids[:13] == [0, 1, 2, 3, 4, 5, 8, 9, 10, 11, 12, 13, 16]
    assert ids[-1] == 61


def test_threads_share_a_core() -> None:
    machine = described(SMALL.replace("cores = 2", "cores = 1\nthreads = 2"))
    assert [machine.core_of(cpu) for cpu in range(4)] == [0, 0, 1, 1]


def test_much_ram_leaves_a_hole_from_2_to_4_gib() -> None:
    pieces = [(piece.start, piece.end, piece.node) for piece in load_machine("paper").ram]
    assert pieces[:3] == [(MIB, 2 * GIB - 2 * MIB, 0), (4 * GIB, 10 * GIB, 0), (10 * GIB, 18 * GIB, 1)]
    assert pieces[-1][1] == 66 * GIB


def test_little_ram_lies_below_the_hole() -> None:
    pieces = [(piece.start, piece.end, piece.node) for piece in described(SMALL).ram]
    assert pieces == [(MIB, GIB, 0), (GIB, 2 * GIB - 2 * MIB, 1)]


def test_a_machine_can_say_where_its_memory_and_cpus_are() -> None:
    text = SMALL.replace(
        'cpus = "2-3"', 'cpus = "2-3"\nram = [{start = "0x100000000", end = "0x140000000"}]'
    ) + "".join(
        f"[[cpus]]\napic_id = {apic}\nsocket = 0\ndie = 0\ncore = {core}\n"
        for apic, core in ((0, 0), (16, 1), (1, 0), (17, 1))
    )
    machine = described(text)
    assert [machine.apic_id(cpu) for cpu in range(4)] == [0, 16, 1, 17]
    assert [machine.core_of(cpu) for cpu in range(4)] == [0, 1, 0, 1]
    assert machine.ram[-1].start == 4 * GIB


def test_a_machine_survives_being_written_as_json(tmp_path: Path) -> None:
    machine = load_machine("paper")
    path = tmp_path / "m.json"
    path.write_text(machine.model_dump_json())
    assert load_machine(path) == machine


@pytest.mark.parametrize(
    ("old", "new", "place", "said"),
    [
        ("sockets = 2", "socktes = 2", "mine.toml:2", "unknown key 'socktes'"),
        ('memory = "1GiB"\n\n', 'memmory = "1GiB"\n\n', "mine.toml:7", r"nodes\[0\].memmory"),
        ("sockets = 2", "sockets = ", "mine.toml:2:11", "Invalid value"),
        ("sockets = 2", 'sockets = "two"', "mine.toml:2", "sockets"),
        ("sockets = 2", "sockets = 0", "mine.toml:2", "greater than or equal to 1"),
        ('"1GiB"\n\n', '"1GiBB"\n\n', "mine.toml:7", "is no amount of memory"),
        ('cpus = "2-3"', 'cpus = "3-2"', "mine.toml:10", "reversed"),
        ('cpus = "2-3"', 'cpus = "1-3"', "mine.toml", "CPU 1 is in 2 nodes"),
        ('cpus = "2-3"', 'cpus = "2"', "mine.toml", "CPUs 3 are in no node"),
        ('cpus = "2-3"', 'cpus = "2-4"', "mine.toml", "has CPU 4"),
        ('memory = "1GiB"\n\n', 'memory = "1000001"\n\n', "mine.toml", "multiple of 2 MiB"),
        ("sockets = 2", "sockets = 2000", "mine.toml", "has room for 512"),
        ('name = "mine"\n', "", "mine.toml", "'name' is missing"),
    ],
)
def test_a_mistake_is_told_with_its_line(old: str, new: str, place: str, said: str) -> None:
    assert old in SMALL
    with pytest.raises(UserError, match=said) as caught:
        described(SMALL.replace(old, new, 1))
    assert str(caught.value).startswith(place)


def test_a_typo_gets_the_nearest_name() -> None:
    with pytest.raises(UserError) as caught:
        described(SMALL.replace('memory = "1GiB"', 'memmory = "1GiB"', 1))
    assert caught.value.hint == "did you mean 'memory'?"


def test_lines_are_found_in_nested_tables() -> None:
    text = "a = 1\n[b.c]\nd = 2\n[[e]]\n[[e]]\n# x\n[e.f]\n'g h' = 3\n"
    assert line_of(text, ("b", "c", "d")) == 3
    assert line_of(text, ("e", 1, "f", "g h")) == 8
    assert line_of(text, ("e", 1, "nothing")) == 5
    assert line_of(text, ("z",)) is None


@pytest.mark.parametrize(
    ("name", "said", "hint"),
    [
        ("papper", "unknown machine 'papper'", "did you mean 'paper'?"),
        ("xyz", "unknown machine 'xyz'", "paper, small"),
        ("./none.toml", "no machine description", "paper, small"),
    ],
)
def test_an_unknown_machine_is_told_with_those_that_are_known(name: str, said: str, hint: str) -> None:
    with pytest.raises(UserError, match=said) as caught:
        load_machine(name)
    assert hint in caught.value.hint


def test_a_machine_file_that_is_no_json_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "m.json"
    path.write_text("{")
    with pytest.raises(UserError, match=r"m\.json"):
        load_machine(path)
    path.write_text(json.dumps({"name": "x"}))
    with pytest.raises(UserError, match="is missing"):
        load_machine(path)


@pytest.mark.parametrize(
    ("text", "size"),
    [("8GiB", 8 * GIB), ("512M", 512 * MIB), ("64 KiB", 64 * KIB), ("0x1000", 4096), ("0x10M", 16 * MIB), ("7", 7)],
)
def test_sizes_are_read(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "GiB", "1.5GiB", "-1", "8GB", "8 apples"])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(UserError, match="no amount of memory"):
        parse_size(text)


def test_sizes_are_written_for_people() -> None:
    assert format_size(8 * GIB) == "8 GiB"
    assert format_size(1332 * MIB) == "1332 MiB"
    assert format_size(66 * GIB + 1) == "66 GiB"
    assert format_size(1536) == "1.5 KiB"
    assert format_size(12) == "12 bytes"


@given(st.integers(1, 1 << 48))
def test_the_kernel_reads_the_same_size(size: int) -> None:
    assert parse_size(kernel_size(size)) == size
