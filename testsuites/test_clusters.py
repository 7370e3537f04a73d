# SPDX-License-Identifier: Apache-2.0
"""Kernels with several CPUs, next to each other or not."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from neighbours import assert_neighbours_known
from proc import fields, interrupts

from popcorn import cpulist
from popcorn.machine.machine import Machine

Everywhere = Callable[[str], dict[int, str]]
_POLICIES = [
    pytest.param(None, marks=pytest.mark.machine("small", policy="0;1,3;2,5,7;4,6"), id="scattered"),
    pytest.param(None, marks=pytest.mark.machine("small", policy="per-node"), id="per-node"),
]
# Threads that wake each other make a kernel send IPIs among its own CPUs.
_BUSY = ["npb", "cg", "S"]


@pytest.mark.parametrize("_layout", _POLICIES)
def test_every_cluster_brings_up_all_its_cpus(_layout: None, machine: Machine, everywhere: Everywhere) -> None:
    for id, text in everywhere("cat /proc/popcorn/self; echo online: $(nproc)").items():
        cpus = machine.plan.partition(id).cpus
        assert cpulist.parse(fields(text)["cpus"][0]) == cpus
        assert fields(text)["online"] == [str(len(cpus))]


@pytest.mark.parametrize("_layout", _POLICIES)
def test_clusters_know_the_hardware_addresses_of_all_others(
    _layout: None, machine: Machine, everywhere: Everywhere
) -> None:
    assert_neighbours_known(machine, everywhere)


@pytest.mark.parametrize("_layout", _POLICIES)
def test_every_cpu_of_a_cluster_has_its_own_timer(_layout: None, machine: Machine, everywhere: Everywhere) -> None:
    for id, text in everywhere("cat /proc/interrupts; sleep 2; echo ==; cat /proc/interrupts").items():
        counts = interrupts(text.split("==\n")[1])["LOC"]
        assert len(counts) == len(machine.plan.partition(id).cpus)
        assert all(counts), f"kernel {id}: {counts}"


@pytest.mark.machine("small", policy="0;1,3;2,5,7;4,6")
def test_the_ipis_of_clusters_never_reach_a_neighbour(machine: Machine) -> None:
    one_cpu = next(part.id for part in machine.plan.partitions if len(part.cpus) == 1)
    clusters = [part.id for part in machine.plan.partitions if len(part.cpus) > 1]

    def ipis(id: int) -> int:
        counts = interrupts(machine.exec(id, ["cat", "/proc/interrupts"]).stdout_text)
        return sum(sum(counts.get(name, [])) for name in ("RES", "CAL", "TLB"))

    before = {id: ipis(id) for id in clusters}
    for id in clusters:
        assert machine.exec(id, _BUSY, timeout_s=120).status == 0
    assert all(ipis(id) > before[id] for id in clusters)
    assert ipis(one_cpu) == 0


@pytest.mark.machine("small", policy="per-node")
def test_an_external_nmi_reaches_the_primary_alone(machine: Machine, everywhere: Everywhere) -> None:
    def nmis() -> dict[int, int]:
        return {id: sum(interrupts(text)["NMI"]) for id, text in everywhere("cat /proc/interrupts").items()}

    before = nmis()
    with machine.qmp() as qmp:
        qmp.execute("inject-nmi")
    primary = machine.plan.primary.id
    after = nmis()
    assert after == {id: count + (id == primary) for id, count in before.items()}


@pytest.mark.parametrize("_layout", _POLICIES)
def test_no_cluster_got_spurious_interrupts(_layout: None, everywhere: Everywhere) -> None:
    for id, text in everywhere("cat /proc/interrupts").items():
        assert interrupts(text).get("ERR", [0]) == [0], f"kernel {id}"
        assert not any(interrupts(text).get("SPU", [])), f"kernel {id}"
