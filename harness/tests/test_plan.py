# SPDX-License-Identifier: Apache-2.0
"""Plans: what holds for all of them, and what the policies give."""

from __future__ import annotations

import contextlib
import itertools

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from popcorn.config import Machine, Node, load_machine
from popcorn.config.sizes import GIB, MIB
from popcorn.errors import UserError
from popcorn.plan import Plan, make_plan, read_plan, validate
from popcorn.plan.cmdline import HASH_TABLES, foreign_ram
from popcorn.plan.memory import SECTION, region_size

PAPER = load_machine("paper")
SMALL = load_machine("small")


@st.composite
def machines(draw: st.DrawFn) -> Machine:
    """Machines of many shapes whose nodes have CPUs in any order."""
    sockets, dies, cores, threads = (draw(st.integers(1, 4)) for _ in range(4))
    nr_cpus = sockets * dies * cores * threads
    nr_nodes = draw(st.integers(1, min(nr_cpus, 8)))
    numbers = draw(st.permutations(range(nr_cpus))) if draw(st.booleans()) else list(range(nr_cpus))
    bounds = sorted(
        draw(st.sets(st.integers(1, nr_cpus - 1), min_size=nr_nodes - 1, max_size=nr_nodes - 1)) if nr_cpus > 1 else []
    )
    edges = [0, *bounds, nr_cpus]
    nodes = tuple(
        Node(cpus=tuple(numbers[a:b]), memory=draw(st.integers(1, 4096)) * 2 * MIB)
        for a, b in itertools.pairwise(edges)
    )
    return Machine(name="drawn", sockets=sockets, dies=dies, cores=cores, threads=threads, nodes=nodes)


@st.composite
def policies(draw: st.DrawFn, machine: Machine) -> str:
    """Named policies, and lists that leave some CPUs out."""
    named = draw(st.sampled_from(["smp", "per-core", "per-node", "per-socket", ""]))
    if named:
        return named
    owner = [0, *(draw(st.integers(-1, 5)) for _ in range(machine.nr_cpus - 1))]
    groups = [[str(cpu) for cpu, kernel in enumerate(owner) if kernel == wanted] for wanted in range(6)]
    return ";".join(",".join(group) for group in groups if group)


@st.composite
def plans(draw: st.DrawFn) -> Plan:
    machine = draw(machines())
    policy = draw(policies(machine))
    try:
        return make_plan(machine, policy, memory=draw(st.sampled_from(["numa", "flat"])))
    except UserError:
        assume(False)
        raise


@given(plans())
def test_memory_of_kernels_and_the_shared_region_never_overlap(plan: Plan) -> None:
    windows = sorted(
        [(window.start, window.end) for partition in plan.partitions for window in partition.memory]
        + [(plan.region.start, plan.region.end)]
    )
    assert all(left[1] <= right[0] for left, right in itertools.pairwise(windows))


@given(plans())
def test_memory_lies_in_the_ram_of_its_node_and_out_of_the_pci_hole(plan: Plan) -> None:
    hole = plan.machine.hole
    for partition in plan.partitions:
        for window in partition.memory:
            assert window.end <= hole.start or window.start >= hole.end
            assert any(
                piece.node == window.node and piece.start <= window.start and window.end <= piece.end
                for piece in plan.machine.ram
            )


@given(plans())
def test_memory_is_in_units_of_2_mib_and_the_first_mib_is_nobodys(plan: Plan) -> None:
    for partition in plan.partitions:
        for window in partition.memory:
            assert window.end % (2 * MIB) == 0
            assert window.start % (2 * MIB) == 0 or (partition.is_primary and window.start == MIB)


@given(plans())
def test_each_cpu_belongs_to_one_kernel_which_is_named_after_its_smallest(plan: Plan) -> None:
    owned = [cpu for partition in plan.partitions for cpu in partition.cpus]
    assert len(owned) == len(set(owned))
    assert all(partition.id == min(partition.cpus) for partition in plan.partitions)
    assert plan.primary.id == 0
    assert [partition.id for partition in plan.partitions] == sorted(partition.id for partition in plan.partitions)


@given(plans())
def test_the_primary_keeps_off_all_ram_that_is_not_its_own(plan: Plan) -> None:
    own = sum(window.size for window in plan.primary.memory)
    foreign = foreign_ram(plan.machine, plan.primary.memory)
    assert own + sum(end - start for start, end in foreign) == sum(piece.size for piece in plan.machine.ram)
    assert plan.primary.cmdline.count("memmap=") == len(foreign)
    assert any(start <= plan.region.start and plan.region.end <= end for start, end in foreign)


@given(plans())
def test_a_plan_survives_being_written_and_read(plan: Plan) -> None:
    assert read_plan(plan.to_json()) == plan


@given(plans())
def test_a_plan_that_was_made_passes_its_own_rules(plan: Plan) -> None:
    validate(plan)


@settings(max_examples=200)
@given(st.data())
def test_an_impossible_plan_is_the_users_mistake_and_nothing_else(data: st.DataObject) -> None:
    machine = data.draw(machines())
    policy = data.draw(policies(machine))
    memory = data.draw(st.sampled_from(["numa", "flat"]))
    with contextlib.suppress(UserError):
        make_plan(machine, policy, memory=memory)


@given(st.integers(1, 512))
def test_the_region_holds_a_slot_a_log_and_a_row_of_vty_cells_for_each_kernel(kernels: int) -> None:
    size = region_size(kernels)
    assert size % (2 * MIB) == 0
    assert size >= 65536 + kernels * (4096 + 65536) + kernels * kernels * 2176


def test_per_core_gives_the_paper_48_kernels_of_about_equal_memory() -> None:
    plan = make_plan(PAPER, "per-core")
    sizes = [partition.memory_bytes for partition in plan.secondaries]
    assert len(plan.partitions) == 48
    assert max(sizes) - min(sizes) <= 2 * MIB


def test_per_node_gives_the_paper_8_clusters_each_in_its_node() -> None:
    plan = make_plan(PAPER, "per-node")
    assert [partition.id for partition in plan.partitions] == [0, 6, 12, 18, 24, 30, 36, 42]
    for number, partition in enumerate(plan.partitions):
        assert {window.node for window in partition.memory} == {number}


def test_per_socket_gives_the_paper_4_kernels_with_the_memory_of_two_nodes_each() -> None:
    plan = make_plan(PAPER, "per-socket")
    assert [sorted({window.node for window in part.memory}) for part in plan.partitions] == [
        [0, 1],
        [2, 3],
        [4, 5],
        [6, 7],
    ]


def test_a_partition_never_crosses_the_pci_hole_but_has_a_window_on_each_side() -> None:
    kernel_1 = make_plan(PAPER, "per-core").partition(1)
    assert [window.end <= 2 * GIB for window in kernel_1.memory] == [True, False]
    assert kernel_1.memory[1].start == 4 * GIB


def test_cpus_that_no_list_names_stay_unused_and_so_does_the_memory_of_their_nodes() -> None:
    plan = make_plan(PAPER, "0-5;6,8,10;7,9,11")
    assert [partition.cpus for partition in plan.secondaries] == [(6, 8, 10), (7, 9, 11)]
    assert {window.node for partition in plan.partitions for window in partition.memory} == {0, 1}


def test_flat_memory_goes_by_address_and_not_by_node() -> None:
    plan = make_plan(SMALL, "0-3;4;5;6;7", memory="flat")
    assert {window.node for window in plan.partition(4).memory} == {0}
    sizes = [partition.memory_bytes for partition in plan.secondaries]
    assert max(sizes) - min(sizes) <= 2 * MIB


def test_a_nodes_memory_is_divided_in_proportion_to_cpus() -> None:
    plan = make_plan(SMALL, "0-3;4;5-7")
    assert plan.partition(4).memory_bytes == 512 * MIB
    assert plan.partition(5).memory_bytes == 1536 * MIB


def test_explicit_sizes_are_given_and_the_rest_is_divided() -> None:
    plan = make_plan(SMALL, "per-core", sizes={5: 128 * MIB, 6: 256 * MIB})
    assert plan.partition(5).memory_bytes == 128 * MIB
    assert plan.partition(6).memory_bytes == 256 * MIB
    assert plan.partition(4).memory_bytes == (2048 - 128 - 256) // 2 * MIB


def test_the_shared_region_keeps_away_from_where_boot_loaders_put_the_initrd() -> None:
    for policy in ("smp", "per-core", "per-node"):
        plan = make_plan(PAPER, policy)
        assert plan.region.end <= 2 * GIB - 256 * MIB


@pytest.mark.parametrize("machine", [PAPER, SMALL])
@pytest.mark.parametrize("memory", ["numa", "flat"])
def test_no_other_kernel_owns_what_boot_loaders_use_for_the_initrd(machine: Machine, memory: str) -> None:
    plan = make_plan(machine, "per-core", memory=memory)
    low_end = max(piece.end for piece in machine.ram if piece.end <= machine.hole.start)
    for partition in plan.secondaries:
        assert not any(low_end - 64 * MIB < window.end <= low_end for window in partition.memory)


def test_the_room_for_the_initrd_is_part_of_what_the_primary_gets() -> None:
    plan = make_plan(SMALL, "per-core")
    assert len(plan.primary.memory) == 2
    assert plan.partition(1).memory_bytes - 2 * MIB <= plan.primary.memory_bytes + plan.region.size + MIB


def test_the_room_for_the_initrd_does_not_make_windows_end_inside_a_section() -> None:
    assert all(
        window.start % SECTION == 0 for part in make_plan(SMALL, "per-core").secondaries for window in part.memory
    )


def test_a_primary_that_is_to_be_tiny_has_no_room_for_the_initrd() -> None:
    plan = make_plan(SMALL, "0;4", sizes={0: 128 * MIB})
    assert [window.start for window in plan.primary.memory] == [MIB]


def _split(cmdline: str, owned: str) -> list[str]:
    """What a command line says besides what its kernel owns, which comes first."""
    assert cmdline.startswith(owned + " ")
    return cmdline.removeprefix(owned).split()


def test_the_primary_is_told_what_it_owns() -> None:
    rest = _split(
        make_plan(SMALL, "per-node").primary.cmdline,
        "present_mask=0-3 cpu_offset=0 popcorn=32M@0x6de00000,8 memmap=32M$0x6de00000 memmap=2G$0x100000000",
    )
    assert rest[-2:] == ["console=popcon", "console=ttyS0"]


def test_a_secondary_is_told_what_it_owns() -> None:
    rest = _split(
        make_plan(SMALL, "0-3;4,6").partition(4).cmdline,
        "present_mask=4,6 cpu_offset=4",
    )
    assert rest[-1] == "console=popcon"


def test_smp_is_plain_linux_whose_console_can_be_recorded() -> None:
    plan = make_plan(PAPER, "smp", extra_cmdline="quiet")
    rest = _split(plan.primary.cmdline, "popcorn=32M@0x6de00000,48 memmap=32M$0x6de00000")
    assert rest[-3:] == ["console=popcon", "console=ttyS0", "quiet"]
    assert len(plan.primary.cpus) == 48


def test_what_every_kernel_is_told_smp_linux_is_told_too() -> None:
    """Else a comparison of the two would compare more than partitions."""
    owned = ("present_mask", "cpu_offset", "popcorn", "memmap", "console")
    owned += (*HASH_TABLES, "swiotlb")

    def others(policy: str) -> list[set[str]]:
        lines = [partition.cmdline for partition in make_plan(SMALL, policy).partitions]
        return [{word for word in line.split() if word.partition("=")[0] not in owned} for line in lines]

    assert len({frozenset(words) for policy in ("smp", "per-core") for words in others(policy)}) == 1


def test_hash_tables_are_in_proportion_to_memory_for_smp_linux_as_for_every_kernel() -> None:
    for policy in ("smp", "per-core"):
        for partition in make_plan(PAPER, policy).partitions:
            words = dict(word.split("=", 1) for word in partition.cmdline.split() if "=" in word)
            for name, bytes_per_entry in HASH_TABLES.items():
                assert int(words[name]) == partition.memory_bytes // bytes_per_entry


def test_what_is_appended_comes_last_and_so_counts() -> None:
    plan = make_plan(SMALL, "per-core", extra_cmdline="dhash_entries=7")
    assert all(partition.cmdline.endswith(" dhash_entries=7") for partition in plan.partitions)


def test_only_who_may_have_devices_makes_bounce_buffers_for_them() -> None:
    plan = make_plan(PAPER, "per-core")
    assert "swiotlb=noforce" not in plan.primary.cmdline.split()
    assert all("swiotlb=noforce" in partition.cmdline.split() for partition in plan.secondaries)


def test_devices_belong_to_the_primary_unless_said_otherwise() -> None:
    assert make_plan(SMALL, "per-node").primary.devices == ("net0",)
    assert "pci_dev_flags" not in make_plan(SMALL, "per-node").primary.cmdline


def test_an_unknown_kernel_is_told_with_those_that_are_there() -> None:
    with pytest.raises(UserError, match="no kernel 3") as caught:
        make_plan(SMALL, "per-node").partition(3)
    assert "0, 4" in caught.value.hint
