# SPDX-License-Identifier: Apache-2.0
"""What a plan may not be: each mistake has its own message, and nothing is made of it."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from popcorn.config import Node, load_machine
from popcorn.config.machine import Device, Machine
from popcorn.config.sizes import GIB, MIB
from popcorn.errors import UserError
from popcorn.plan import make_plan, read_plan, validate

SMALL = load_machine("small")


@pytest.mark.parametrize(
    ("policy", "said", "hint"),
    [
        ("per-coer", "unknown policy 'per-coer'", "per-core"),
        ("everything", "unknown policy", "per-node"),
        ("", "unknown policy", "per-node"),
        ("0-3;4-8", "CPU 8, which machine small does not have", "0-7"),
        ("0-3;3-4", "CPU 3 to two kernels: 0-3 and 3-4", "once"),
        ("0-3,2", "CPU 2 stands twice", "once"),
        ("1-3;4-7", "CPU 0 to no kernel", "primary"),
        ("0-3;7-4", "reversed", "4-7"),
        ("0;x", "is no CPU", "0-5,8,10"),
    ],
)
def test_a_policy_that_cannot_be_is_refused(policy: str, said: str, hint: str) -> None:
    with pytest.raises(UserError, match=said) as caught:
        make_plan(SMALL, policy)
    assert hint in caught.value.hint
    assert caught.value.exit_status == 2


@pytest.mark.parametrize(
    ("sizes", "said"),
    [
        ({4: 4 * GIB}, "node 1 has 2 GiB, but 4 GiB are asked of it by kernel 4$"),
        ({4: 2 * GIB, 5: GIB}, "node 1 has 2 GiB, but 3 GiB are asked of it by kernels 4-5$"),
        ({4: 3 * MIB}, "kernel 4 cannot have 3 MiB"),
        ({4: 65 * MIB}, "kernel 4 cannot have 65 MiB"),
        ({4: 32 * MIB}, "kernel 4 cannot have 32 MiB"),
        ({3: GIB}, "kernel 3, which is not in the plan"),
        ({4: 2 * GIB}, "kernel 5 has 0 bytes of memory"),
        ({0: 64 * MIB}, "the primary has 63 MiB at the beginning"),
    ],
)
def test_a_size_that_does_not_fit_is_refused(sizes: dict[int, int], said: str) -> None:
    with pytest.raises(UserError, match=said) as caught:
        make_plan(SMALL, "0-3;4-6;7" if 3 in sizes else "0-3;4;5", sizes=sizes)
    assert caught.value.hint


def test_too_many_kernels_for_the_memory_are_refused() -> None:
    nodes = (Node(cpus=(0, 1), memory=512 * MIB), Node(cpus=(2, 3, 4), memory=128 * MIB))
    machine = Machine(name="m", sockets=1, cores=5, nodes=nodes)
    with pytest.raises(UserError, match="kernel 2 has 42 MiB of memory") as caught:
        make_plan(machine, "per-core")
    assert "fewer kernels" in caught.value.hint


def test_memory_is_divided_in_two_ways_only() -> None:
    with pytest.raises(UserError, match="'striped'"):
        make_plan(SMALL, "per-core", memory="striped")


@pytest.mark.parametrize(
    ("devices", "said"),
    [
        ({"net0": 4}, "only the primary can own PCI devices"),
        ({"net0": 3}, "kernel 3, which is not in the plan"),
        ({"gpu": 0}, "no device 'gpu'"),
    ],
)
def test_a_device_that_cannot_be_given_is_refused(devices: dict[str, int], said: str) -> None:
    with pytest.raises(UserError, match=said):
        make_plan(SMALL, "per-node", devices=devices)


def test_a_command_line_over_the_kernels_limit_is_refused_with_both_lengths() -> None:
    with pytest.raises(UserError, match=r"has 2\d\d\d bytes; the kernel takes 2047"):
        make_plan(SMALL, "per-node", extra_cmdline="x" * 2000)


def test_a_command_line_of_exactly_the_limit_is_accepted() -> None:
    length = max(len(partition.cmdline) for partition in make_plan(SMALL, "per-node").partitions)
    plan = make_plan(SMALL, "per-node", extra_cmdline="x" * (2047 - length - 1))
    assert max(len(partition.cmdline) for partition in plan.partitions) == 2047


def test_an_added_parameter_that_contradicts_the_plan_is_refused() -> None:
    with pytest.raises(UserError, match="contradicts"):
        make_plan(SMALL, "per-node", extra_cmdline="present_mask=0-7")


def test_too_many_windows_are_refused() -> None:
    nodes = tuple(Node(cpus=(cpu,), memory=128 * MIB) for cpu in range(20))
    machine = Machine(name="m", sockets=20, cores=1, nodes=nodes)
    with pytest.raises(UserError, match=r"in \d\d windows; a kernel can have 16"):
        make_plan(machine, "0-18;19")


Change = Callable[[dict[str, Any]], object]


def _window(document: dict[str, Any], kernel: int, **changes: int) -> None:
    document["partitions"][kernel]["memory"][0].update(changes)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda d: _window(d, 1, start=4 * GIB + MIB), "the window 0x100100000-0x180100000 of kernel 4 is not aligned"),
        (lambda d: _window(d, 1, size=2 * GIB - 4096), "not aligned"),
        (
            lambda d: _window(d, 1, start=0x20000000, size=64 * MIB, node=0),
            "of kernel 4 overlap from 0x20000000 to 0x24000000",
        ),
        (lambda d: _window(d, 1, start=5 * GIB), "outside the machine's memory|spans"),
        (lambda d: _window(d, 1, start=64 * GIB), "outside the machine's memory"),
        (lambda d: _window(d, 1, start=3 * GIB, size=64 * MIB), "reaches into the PCI hole"),
        (lambda d: _window(d, 1, node=0), "is said to be in node 0"),
        (lambda d: _window(d, 1, size=32 * MIB), "has 32 MiB of memory"),
        (lambda d: _window(d, 0, start=0), "first MiB"),
        (lambda d: _window(d, 0, start=2 * MIB, size=128 * MIB), "does not own the memory that begins at 0x100000"),
        (lambda d: d["partitions"][1].update(memory=[]), "has 0 bytes of memory"),
        (lambda d: d["partitions"][1].update(cpus=[3, 4]), "CPU 3 is given twice: to kernel 0 and to kernel"),
        (lambda d: d["partitions"][1].update(cpus=[4, 4]), "CPU 4 is given twice"),
        (lambda d: d["partitions"][1].update(cpus=[4, 8]), "CPU 8, which machine small does not have"),
        (lambda d: d["partitions"][1].update(cpus=[]), "cpus"),
        (lambda d: d["partitions"][1].update(cpus="4-x"), "is no CPU"),
        (lambda d: d["partitions"][1].update(id=5), "has the id 5"),
        (lambda d: d["partitions"][1].update(apic_ids=[9]), "has the APIC ids"),
        (lambda d: d["partitions"].pop(0), "no kernel has CPU 0"),
        (lambda d: d["partitions"][1].update(devices=["net0"]), "given twice"),
        (lambda d: d["partitions"][1].update(devices=["gpu"]), "does not have"),
        (lambda d: d["partitions"][1].update(cmdline="panic=-1"), "lacks 'present_mask=4-7'"),
        (lambda d: d["partitions"][1].update(cmdline="caf\u00e9"), "printable ASCII"),
        (lambda d: d["region"].update(start=0x20000000), "overlap"),
        (lambda d: d["region"].update(size=2 * MIB), "the shared region .* has 2 MiB"),
        (lambda d: d["region"].update(start=5 * GIB, node=1), "above the PCI hole"),
        (lambda d: d.update(partitions=[]), "partitions"),
        (lambda d: d.update(partions=[]), "unknown key 'partions'"),
        (lambda d: d.update(machine="papper"), "unknown machine"),
    ],
)
def test_a_plan_that_breaks_a_rule_is_refused(change: Change, said: str) -> None:
    document = json.loads(make_plan(SMALL, "per-node").to_json())
    for partition in document["partitions"]:
        del partition["cmdline"]
    change(document)
    with pytest.raises(UserError, match=said) as caught:
        validate(read_plan(json.dumps(document)))
    assert caught.value.exit_status == 2


def test_a_plan_by_hand_needs_no_more_than_cpus_and_memory() -> None:
    plan = read_plan(
        json.dumps(
            {
                "machine": "small",
                "partitions": [
                    {"cpus": "0-3", "memory": [{"start": "0x100000", "size": "1023MiB"}], "devices": ["net0"]},
                    {"cpus": "4,6", "memory": [{"start": "0x100000000", "size": "256MiB"}]},
                ],
            }
        )
    )
    validate(plan)
    assert plan.partition(4).apic_ids == (4, 6)
    assert plan.region.start == 2 * GIB - 2 * MIB - 32 * MIB


def test_a_device_that_no_kernel_owns_is_hidden_from_the_primary() -> None:
    document = json.loads(make_plan(SMALL, "per-node").to_json())
    document["partitions"][0].update(devices=[], cmdline=None)
    plan = read_plan(json.dumps(document))
    validate(plan)
    assert "pci_dev_flags=0x1af4:0x1000:b" in plan.primary.cmdline


def test_a_plan_without_room_for_the_shared_region_is_refused() -> None:
    memory = [{"start": "0x100000", "size": 2 * GIB - 2 * MIB - MIB}]
    with pytest.raises(UserError, match="leaves no 32 MiB free below"):
        read_plan(json.dumps({"machine": "small", "partitions": [{"cpus": "0", "memory": memory}]}))


def test_text_that_is_no_json_is_refused() -> None:
    with pytest.raises(UserError, match="no JSON"):
        read_plan("{", "my.json")


def test_a_device_id_is_two_hexadecimal_numbers() -> None:
    with pytest.raises(ValueError, match="pattern"):
        Device(name="x", id="virtio")
