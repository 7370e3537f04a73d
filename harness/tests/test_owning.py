# SPDX-License-Identifier: Apache-2.0
"""What a primary is told to take and to give, and what is made of its answers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import cast

import pytest
from shared_region import WrittenRegion

from popcorn.config import load_machine
from popcorn.config.sizes import GIB, KIB, MIB
from popcorn.errors import GuestError, UserError
from popcorn.guest.finished import Finished
from popcorn.guest.owning import carry_out, make_room, require_spare_memory, take_back
from popcorn.machine.layout import Region
from popcorn.machine.machine import Machine
from popcorn.plan import Plan, Window, make_plan
from popcorn.plan.change import next_plan
from popcorn.plan.moves import Moves

PLAN = next_plan(make_plan(load_machine("small"), "hotplug"), "per-core")


@dataclass
class _Primary:
    """One that does what it is told, up to an order that it cannot carry out."""

    refuses: str = ""
    total: int = 4 * GIB
    available: int = 4 * GIB
    orders: list[str] = field(default_factory=list)
    waited: int = 0

    def get(self, path: str) -> bytes:
        assert path == "/proc/meminfo"
        return f"MemTotal: {self.total // KIB} kB\nMemAvailable: {self.available // KIB} kB\n".encode()

    def run(
        self,
        argv: Sequence[str],
        *,
        stdin: bytes = b"",
        timeout_s: float | None = None,
        on_output: Callable[[str, bytes], None] | None = None,
    ) -> Finished:
        if argv[0] == "flock":
            self.waited += 1
            return Finished(tuple(argv), 0, b"", b"")
        told = b""
        for order in stdin.decode().splitlines():
            if order == self.refuses:
                told += f"popcorn-own: {order} failed: Device or resource busy\n".encode()
                return Finished(tuple(argv), 1, told, b"")
            self.orders.append(order)
            told += f"popcorn-own: {order} ok\n".encode()
        return Finished(tuple(argv), 0, told, b"")


@dataclass
class _Machine:
    plan: Plan
    primary: _Primary
    has: Plan
    """What the kernels have that live."""
    kernels: dict[int, str]
    name: str = "made"

    def region(self) -> Region:
        written = WrittenRegion(8)
        for partition in self.has.partitions:
            slot = written.set(partition.id, self.kernels.get(partition.id, "RUNNING"), "USER")
            slot.cpus[0] = sum(1 << cpu for cpu in partition.cpus)
            slot.nr_cpus = len(partition.cpus)
            slot.nr_ranges = len(partition.memory)
            for index, window in enumerate(partition.memory):
                slot.range[index].start, slot.range[index].size = window.start, window.size
        return written.region()


def _machine(
    plan: Plan = PLAN, *, has: Plan | None = None, ended: Sequence[int] = (), **primary: object
) -> tuple[Machine, _Primary]:
    made = _Primary(**primary)  # type: ignore[arg-type]
    return cast("Machine", _Machine(plan, made, has or plan, dict.fromkeys(ended, "PARKED"))), made


def test_the_primary_takes_what_an_ended_kernel_had() -> None:
    machine, primary = _machine(ended=[5])
    (window,) = PLAN.partition(5).memory
    take_back(machine, [4, 5])
    assert primary.orders == [f"memory add {window.start:#x}+{window.size:#x}", "cpu online 5"]


def test_the_primary_gives_what_a_kernel_needs_that_starts() -> None:
    has_all = make_plan(load_machine("small"), "hotplug")
    machine, primary = _machine(has=has_all)
    (window,) = PLAN.partition(5).memory
    make_room(machine, [5])
    assert primary.orders == ["cpu offline 5", f"memory remove {window.start:#x}+{window.size:#x}"]


def test_memory_goes_in_pieces_and_cpus_first() -> None:
    machine, primary = _machine()
    todo = Moves(give_cpus=(3, 4), give_memory=(Window(start=0x100000000, size=GIB + 512 * MIB, node=1),))
    carry_out(machine, todo)
    assert primary.orders == [
        "cpu offline 4",
        "cpu offline 3",
        "memory remove 0x100000000+0x40000000",
        "memory remove 0x140000000+0x20000000",
    ]


def test_an_order_that_cannot_be_carried_out_is_named_with_its_cause() -> None:
    machine, _ = _machine(ended=[5], refuses="cpu online 5")
    with pytest.raises(GuestError, match="could not carry out 'cpu online 5': Device or resource busy") as caught:
        take_back(machine, [5])
    assert "popcorn start" in (caught.value.hint or "")


def test_orders_of_a_command_that_was_ended_are_waited_for() -> None:
    machine, primary = _machine(ended=[5])
    take_back(machine, [5])
    assert primary.waited == 1


@pytest.mark.parametrize("ended", [[5], [0, 5]])
def test_nothing_moves_where_the_primary_cannot_or_is_dead(ended: list[int]) -> None:
    plan = make_plan(load_machine("small"), "per-core") if ended == [5] else PLAN
    machine, primary = _machine(plan, ended=ended)
    take_back(machine, [5])
    make_room(machine, [5])
    assert (primary.orders, primary.waited) == ([], 0)


def test_a_primary_whose_memory_is_in_use_is_told_of_before_anything_moves() -> None:
    plan = make_plan(load_machine("small"), "hotplug")
    machine, primary = _machine(plan, total=4 * GIB, available=2 * GIB)
    give = Moves(give_memory=(Window(start=0x100000000, size=2 * GIB, node=1),))
    with pytest.raises(UserError, match=r"the primary uses 2 GiB of its memory, and 20\d\d\.\d MiB are left") as caught:
        require_spare_memory(machine, give)
    assert "--size 0=SIZE" in (caught.value.hint or "")
    assert primary.orders == []
    # As much comes as goes.
    require_spare_memory(machine, Moves(give_memory=give.give_memory, take_memory=give.give_memory))
    primary.available = 3 * GIB
    require_spare_memory(machine, give)
