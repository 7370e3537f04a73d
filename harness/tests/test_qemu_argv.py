# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path

import pytest

from popcorn.config import load_machine
from popcorn.errors import HostError, UserError
from popcorn.machine import qemu
from popcorn.machine.launch import machine_spec
from popcorn.machine.qmp import forwarded_port
from popcorn.plan import make_plan

USERNET = """Hub -1 (net0):
  Protocol[State]    FD  Source Address  Port   Dest. Address  Port RecvQ SendQ
  TCP[HOST_FORWARD]  10       127.0.0.1 42811       10.0.2.15    22     0     0
  TCP[ESTABLISHED]   12       127.0.0.1 42811       10.0.2.15  3333     0     0
"""


def spec(machine: str = "paper") -> qemu.MachineSpec:
    plan = make_plan(load_machine(machine), "per-core")
    return machine_spec(
        plan, name="m", kernel=Path("/k/bzImage"), initrd=Path("/i/initrd"), accel="tcg", run_dir=Path("/run/a,b")
    )


def value(argv: list[str], option: str) -> str:
    return argv[argv.index(option) + 1]


def test_the_papers_machine_has_its_topology_and_memory() -> None:
    argv = qemu.argv(spec())
    assert value(argv, "-smp") == "48,sockets=4,dies=2,cores=6,threads=1"
    assert value(argv, "-m") == "65536M"
    nodes = [word for option, word in itertools.pairwise(argv) if option == "-numa"]
    assert nodes[1] == "node,nodeid=1,cpus=6-11,memdev=ram1"
    assert len(nodes) == 8


def test_memory_of_the_nodes_adds_up_to_the_machines() -> None:
    argv = qemu.argv(spec("small"))
    sizes = [word.split("size=")[1].split("M")[0] for word in argv if word.startswith("memory-backend-file")]
    assert sum(map(int, sizes)) == int(value(argv, "-m").rstrip("M"))


def test_cpus_of_a_node_that_are_not_contiguous_are_named_range_by_range() -> None:
    node = qemu.Node((0, 1, 4, 6), 1 << 30, "/proc/self/fd/3")
    argv = qemu.argv(replace(spec(), nodes=(node,)))
    assert value(argv, "-numa") == "node,nodeid=0,cpus=0-1,cpus=4,cpus=6,memdev=ram0"


def test_commas_in_paths_do_not_end_an_option() -> None:
    serial = next(word for word in qemu.argv(spec()) if "id=serial" in word)
    assert "logfile=/run/a,,b/serial.log" in serial


def test_only_an_emulated_cpu_denies_fast_string_copies() -> None:
    emulated, virtual = (qemu.argv(replace(spec(), accel=accel)) for accel in ("tcg", "kvm"))
    assert "erms=off" in value(emulated, "-cpu")
    assert "erms" not in value(virtual, "-cpu")


def test_no_port_is_fixed_and_everything_listens_on_loopback() -> None:
    forwards = [word for word in qemu.argv(spec()) if "tcp:" in word]
    assert [word.split("hostfwd=")[1] for word in forwards] == ["tcp:127.0.0.1:0-:22"]


def test_a_command_line_over_the_kernels_limit_is_the_users_mistake() -> None:
    with pytest.raises(UserError, match="2048 bytes; Linux takes 2047"):
        qemu.argv(replace(spec(), cmdline="x" * 2048))


def test_a_qemu_that_is_too_old_is_told() -> None:
    assert qemu.parse_version("QEMU emulator version 7.2.22 (Debian 1:7.2)") == (7, 2)
    with pytest.raises(HostError, match=r"version 6\.1; at least 7\.2"):
        qemu.check_version((6, 1))
    with pytest.raises(HostError, match="does not tell"):
        qemu.parse_version("bash: no")


def test_the_forwarded_port_is_read_from_the_monitors_table() -> None:
    assert forwarded_port(USERNET, 22) == 42811
    assert forwarded_port(USERNET, 80) is None


def test_a_machine_that_goes_on_from_a_snapshot_boots_nothing_and_waits() -> None:
    argv = qemu.argv(replace(spec(), kernel=None, initrd=None))
    assert value(argv, "-incoming") == "defer"
    assert "-S" in argv
    assert not {"-kernel", "-initrd", "-append"} & set(argv)
