# SPDX-License-Identifier: Apache-2.0
"""Probing: trees recorded from Linux 6.1 on QEMU 7.2, as root and as somebody else would see them."""

from __future__ import annotations

import shutil
import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from popcorn.cli import main as cli
from popcorn.config import Machine, load_machine
from popcorn.config.sizes import GIB, MIB
from popcorn.config.write import machine_toml
from popcorn.errors import GuestError, HostError
from popcorn.plan import make_plan
from popcorn.plan.acpi import affinities, enabled_apic_ids
from popcorn.plan.collect import script, unpack
from popcorn.plan.probe import probe

RECORDED = Path(__file__).parent / "recorded" / "probe"


def _recorded(name: str, into: Path) -> Path:
    unpack((RECORDED / f"{name}.txt").read_text(), into)
    return into


def _without_root(tree: Path) -> Path:
    """What others than root may read."""
    for place in ("sys/firmware",):
        shutil.rmtree(tree / place)
    (tree / "proc" / "iomem").write_text("00000000-00000000 : System RAM\n")
    return tree


@pytest.mark.parametrize("name", ["small", "paper"])
def test_a_probed_machine_has_the_shape_of_the_described_one(name: str, tmp_path: Path) -> None:
    probed, described = probe(_recorded(name, tmp_path)), load_machine(name)
    assert probed.nr_cpus == described.nr_cpus
    assert [probed.apic_id(cpu) for cpu in range(probed.nr_cpus)] == [
        described.apic_id(cpu) for cpu in range(described.nr_cpus)
    ]
    assert [node.cpus for node in probed.nodes] == [node.cpus for node in described.nodes]
    assert [probed.socket_of(cpu) for cpu in range(probed.nr_cpus)] == [
        described.socket_of(cpu) for cpu in range(described.nr_cpus)
    ]
    # An AMD processor, which QEMU's "max" is, does not tell of dies.
    assert (probed.sockets, probed.dies * probed.cores, probed.threads) == (
        described.sockets,
        described.dies * described.cores,
        described.threads,
    )


@pytest.mark.parametrize("name", ["small", "paper"])
def test_the_description_of_q35s_memory_is_what_its_firmware_says(name: str, tmp_path: Path) -> None:
    """The firmware keeps a little more or less at the end of low RAM; in whole blocks it is the same."""
    probed, described = probe(_recorded(name, tmp_path)), load_machine(name)
    assert [(piece.start, piece.end // (2 * MIB), piece.node) for piece in probed.ram] == [
        (piece.start, piece.end // (2 * MIB), piece.node) for piece in described.ram
    ]
    assert probed.hole == described.hole


@pytest.mark.parametrize("policy", ["per-core", "per-node", "per-socket"])
def test_a_plan_for_the_probed_machine_is_the_plan_for_the_described_one(policy: str, tmp_path: Path) -> None:
    probed, described = probe(_recorded("paper", tmp_path)), load_machine("paper")
    assert [(part.cpus, part.apic_ids, part.memory) for part in make_plan(probed, policy).partitions] == [
        (part.cpus, part.apic_ids, part.memory) for part in make_plan(described, policy).partitions
    ]


def test_without_root_nodes_and_memory_are_known_from_hotplug_blocks(tmp_path: Path) -> None:
    probed = probe(_without_root(_recorded("small", tmp_path)))
    assert [node.cpus for node in probed.nodes] == [(0, 1, 2, 3), (4, 5, 6, 7)]
    assert [(piece.start, piece.end) for piece in probed.ram] == [(MIB, 2 * GIB), (4 * GIB, 6 * GIB)]


def test_a_kernel_that_owns_one_cpu_still_tells_of_the_whole_machine(tmp_path: Path) -> None:
    tree = _recorded("paper", tmp_path)
    shutil.rmtree(tree / "sys/devices/system/node")
    for cpu in range(1, 48):
        shutil.rmtree(tree / f"sys/devices/system/cpu/cpu{cpu}")
    cpuinfo = (tree / "proc/cpuinfo").read_text()
    (tree / "proc/cpuinfo").write_text(cpuinfo.split("\n\n")[0] + "\n")
    (tree / "proc/iomem").write_text("00100000-533fffff : System RAM\n")
    probed = probe(tree)
    assert probed.nr_cpus == 48
    assert [node.memory // GIB for node in probed.nodes] == [7, 8, 8, 8, 8, 8, 8, 8]
    assert [partition.id for partition in make_plan(probed, "per-node").partitions] == list(range(0, 48, 6))


def test_without_nodes_all_memory_is_in_one(tmp_path: Path) -> None:
    tree = _recorded("small", tmp_path)
    (tree / "sys/firmware/acpi/tables/SRAT").unlink()
    shutil.rmtree(tree / "sys/devices/system/node")
    probed = probe(tree)
    assert len(probed.nodes) == 1
    assert probed.nodes[0].cpus == tuple(range(8))


def test_a_tree_that_says_too_little_is_refused_with_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(HostError, match="shows the CPUs none") as caught:
        probe(tmp_path)
    assert "root" in caught.value.hint
    tree = _without_root(_recorded("small", tmp_path / "tree"))
    shutil.rmtree(tree / "sys/devices/system/memory")
    shutil.rmtree(tree / "sys/devices/system/node/node1")
    for path in (tree / "sys/devices/system/node/node0").glob("memory*"):
        shutil.rmtree(path)
    with pytest.raises(HostError):
        probe(tree)


def test_bridges_are_no_devices_that_a_kernel_can_own(tmp_path: Path) -> None:
    probed = probe(_recorded("small", tmp_path))
    assert "1af4:1000" in [device.id for device in probed.devices]
    assert "8086:29c0" not in [device.id for device in probed.devices]


@pytest.mark.parametrize("name", ["small", "paper"])
def test_a_probed_machine_survives_being_written_as_toml(name: str, tmp_path: Path) -> None:
    machine = probe(_recorded(name, tmp_path / "tree"))
    (tmp_path / "m.toml").write_text(machine_toml(machine))
    assert load_machine(tmp_path / "m.toml") == machine


def test_described_machines_are_written_as_toml_too(tmp_path: Path) -> None:
    for name in ("paper", "small"):
        (tmp_path / "m.toml").write_text(machine_toml(load_machine(name)))
        assert load_machine(tmp_path / "m.toml") == load_machine(name)


def test_the_verb_writes_what_plan_reads(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tree = _recorded("small", tmp_path / "tree")
    for name, option in (("m.toml", []), ("m.json", ["--json"])):
        assert cli.main(["probe", "--root", str(tree), "-o", str(tmp_path / name), *option]) == 0
        assert cli.main(["plan", "--machine", str(tmp_path / name), "--policy", "per-node"]) == 0
    assert "2 kernels" in capsys.readouterr().out


def test_the_verb_looks_from_one_linux_at_a_time(tmp_path: Path) -> None:
    assert cli.main(["probe", "--root", str(tmp_path), "--name", "default"]) == 2


def test_a_machine_that_is_not_up_cannot_be_probed() -> None:
    assert cli.main(["probe", "--name", "nobody"]) == 2


def test_the_collecting_script_prints_what_unpack_reads(tmp_path: Path) -> None:
    import subprocess

    done = subprocess.run(["sh", "-c", script()], capture_output=True, text=True, check=True)
    unpack(done.stdout, tmp_path)
    assert (tmp_path / "proc/cpuinfo").read_text().startswith("processor")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("== proc/cpuinfo\nYQ==\n", "broke off"),
        ("", "broke off"),
        ("== ../etc/passwd\nYQ==\n== end\n", "outside the tree"),
        ("== /etc/passwd\nYQ==\n== end\n", "outside the tree"),
        ("== proc/cpuinfo\n!!!\n== end\n", "damaged"),
    ],
)
def test_a_collection_that_is_not_whole_is_refused(text: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(GuestError, match=said):
        unpack(text, tmp_path)


@given(st.binary(max_size=200), st.integers(0, 400))
def test_a_damaged_firmware_table_is_told_and_not_believed(noise: bytes, at: int) -> None:
    body = bytes(12) + bytes([1, 40]) + struct.pack("<IHQQIIQ", 0, 0, 0, GIB, 0, 1, 0) + bytes([9, 99]) + noise
    table = bytearray(b"SRAT" + struct.pack("<I", 36 + len(body)) + bytes(28) + body)
    table[9] = -sum(table) & 0xFF
    with pytest.raises(HostError):
        affinities(bytes(table[: 36 + at]) if at < len(body) else b"JUNK" + bytes(table))
    with pytest.raises(HostError):
        enabled_apic_ids(noise)


def test_a_machine_is_described_as_found_by_default(tmp_path: Path) -> None:
    assert isinstance(probe(_recorded("small", tmp_path), "mine"), Machine)
    assert probe(tmp_path, "mine").name == "mine"
