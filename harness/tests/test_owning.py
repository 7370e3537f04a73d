# SPDX-License-Identifier: Apache-2.0
"""What a primary is told to take and to give, and what is made of its answers."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import cast

import pytest
from shared_region import WrittenRegion

from popcorn.config import load_machine
from popcorn.config.sizes import GIB, KIB, MIB
from popcorn.errors import GuestError, UserError
from popcorn.guest.finished import Finished
from popcorn.guest.owning import give, gives_first, make_room, take, take_back
from popcorn.machine import owned as owned_module
from popcorn.machine.layout import Region
from popcorn.machine.machine import Machine
from popcorn.machine.owned import live_kernels
from popcorn.plan import Plan, Window, make_plan
from popcorn.plan.change import next_plan
from popcorn.plan.memory import MAX_WINDOWS
from popcorn.plan.moves import Moves, Owned
from popcorn.plan.windows import by_address, subtract

PLAN = next_plan(make_plan(load_machine("small"), "hotplug"), "per-core")


@dataclass
class _Primary:
    """One that does what it is told, up to an order that it cannot carry out."""

    owned: Owned
    """By its own words, which are in the region."""
    refuses: str = ""
    total: int = 4 * GIB
    available: int = 4 * GIB
    orders: list[str] = field(default_factory=list)
    waited: int = 0
    unloaded: list[str] = field(default_factory=list)

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
        if unload := re.search(r"kexec --popcorn --unload --boot=(\d+)", argv[-1]):
            self.unloaded.append(unload[1])
            return Finished(tuple(argv), 0, b"", b"")
        told = b""
        for order in stdin.decode().splitlines():
            if order == self.refuses:
                told += f"popcorn-own: {order} failed: Device or resource busy\n".encode()
                return Finished(tuple(argv), 1, told, b"")
            self.orders.append(order)
            self.owned = _after(self.owned, order)
            told += f"popcorn-own: {order} ok\n".encode()
        return Finished(tuple(argv), 0, told, b"")


def _after(owned: Owned, order: str) -> Owned:
    kind, verb, what = order.split()
    if kind == "cpu":
        return replace(owned, cpus=tuple(sorted(set(owned.cpus) ^ {int(what)})))
    start, size = (int(word, 0) for word in what.split("+"))
    window = Window(start=start, size=size, node=0)
    if verb == "add":
        return replace(owned, memory=by_address([*owned.memory, window]))
    return replace(owned, memory=tuple(subtract(owned.memory, [window])))


@dataclass
class _Machine:
    plan: Plan
    primary: _Primary
    has: Plan
    """What the kernels have that live; the primary tells by itself."""
    kernels: dict[int, str]
    name: str = "made"

    def region(self) -> Region:
        written = WrittenRegion(8)
        for partition in self.has.partitions:
            owned = self.primary.owned if partition.is_primary else Owned(partition.cpus, partition.memory)
            slot = written.set(partition.id, self.kernels.get(partition.id, "RUNNING"), "USER")
            slot.cpus[0] = sum(1 << cpu for cpu in owned.cpus)
            slot.nr_cpus = len(owned.cpus)
            slot.nr_ranges = len(owned.memory)
            for index, window in enumerate(owned.memory):
                slot.range[index].start, slot.range[index].size = window.start, window.size
        return written.region()


def _machine(
    plan: Plan = PLAN,
    *,
    has: Plan | None = None,
    ended: Sequence[int] = (),
    states: dict[int, str] | None = None,
    owned: Owned | None = None,
    **primary: object,
) -> tuple[Machine, _Primary]:
    own = (has or plan).primary
    told = tuple(window.model_copy(update={"node": 0}) for window in own.memory)
    made = _Primary(owned or Owned(own.cpus, by_address(told)), **primary)  # type: ignore[arg-type]
    kernels = {**dict.fromkeys(ended, "PARKED"), **(states or {})}
    return cast("Machine", _Machine(plan, made, has or plan, kernels)), made


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


_ALL = make_plan(load_machine("small"), "hotplug")
_LAST = _ALL.machine.ram[-1]
# Of the end of the memory, so that it goes from there.
_END = Window(start=_LAST.end - GIB - 512 * MIB, size=GIB + 512 * MIB, node=_LAST.node)


def test_memory_goes_in_pieces_from_where_nothing_remains_and_cpus_first() -> None:
    machine, primary = _machine(_ALL)
    give(machine, Moves(give_cpus=(3, 4), give_memory=(_END,)))
    assert primary.orders == [
        "cpu offline 4",
        "cpu offline 3",
        f"memory remove {_END.end - GIB:#x}+{GIB:#x}",
        f"memory remove {_END.start:#x}+{512 * MIB:#x}",
    ]


def test_a_primary_that_cannot_let_go_of_all_has_again_what_it_had() -> None:
    machine, primary = _machine(_ALL, refuses=f"memory remove {_END.start:#x}+{512 * MIB:#x}")
    before = live_kernels(machine.region())[0]
    with pytest.raises(GuestError, match="kernel 0 could not carry out 'memory remove ") as caught:
        give(machine, Moves(give_cpus=(3, 4), give_memory=(_END,)))
    assert (caught.value.hint or "").startswith("the primary has again what it had; ")
    assert live_kernels(machine.region())[0] == before
    assert len(primary.orders) == 6


def test_what_is_too_many_pieces_is_left_and_comes_with_what_lies_between(
    capsys: pytest.CaptureFixture[str],
) -> None:
    size = 128 * MIB
    # As many pieces as there can be, and memory of the last two kernels behind: apart, and in between.
    first = PLAN.partition(6).memory[0].start - 2 * MAX_WINDOWS * size
    pieces = tuple(Window(start=first + 2 * n * size, size=size, node=0) for n in range(MAX_WINDOWS - 1))
    beside = Window(start=PLAN.partition(6).memory[0].start - size, size=size, node=0)
    machine, primary = _machine(ended=[6, 7], owned=Owned((0,), (*pieces, beside)))
    assert PLAN.partition(6).memory[0].end == PLAN.partition(7).memory[0].start
    take_back(machine, [7])
    assert primary.orders == ["cpu online 7"]
    (window,) = PLAN.partition(7).memory
    assert f"the memory {window} is nobody's for now" in capsys.readouterr().err
    take_back(machine, [6])
    assert not subtract([window], primary.owned.memory)
    assert len(primary.owned.memory) == MAX_WINDOWS


def test_more_pieces_than_a_kernel_can_tell_of_are_refused_before_anything_moves() -> None:
    size = 128 * MIB
    many = tuple(Window(start=GIB + 4 * n * size, size=3 * size, node=0) for n in range(MAX_WINDOWS))
    machine, primary = _machine(owned=Owned((0, 5), many))
    todo = Moves(give_memory=(Window(start=GIB + size, size=size, node=0),))
    with pytest.raises(UserError, match="more than 16 pieces"):
        gives_first(machine, live_kernels(machine.region()), todo)
    assert primary.orders == []


def test_a_primary_gives_first_unless_what_it_takes_makes_room() -> None:
    machine, primary = _machine(_ALL)
    live = live_kernels(machine.region())
    give_and_take = Moves(give_memory=(_END,), take_memory=(Window(start=1 << 40, size=2 * GIB, node=0),))
    assert gives_first(machine, live, give_and_take)
    primary.available = GIB
    assert not gives_first(machine, live, give_and_take)


def test_a_kernel_that_never_started_does_not_keep_what_the_primary_takes() -> None:
    machine, primary = _machine(states={5: "LOADED"})
    take(machine, Moves(take_memory=PLAN.partition(6).memory))
    assert primary.unloaded == []
    take_back(machine, [5])
    assert primary.unloaded == ["5"]


def test_an_order_that_cannot_be_carried_out_is_named_with_its_cause() -> None:
    machine, _ = _machine(ended=[5], refuses="cpu online 5")
    with pytest.raises(GuestError, match="could not carry out 'cpu online 5': Device or resource busy") as caught:
        take_back(machine, [5])
    assert "popcorn start" in (caught.value.hint or "")


def test_orders_of_a_command_that_was_ended_are_waited_for() -> None:
    machine, primary = _machine(ended=[5])
    take_back(machine, [5])
    assert primary.waited == 1


def test_a_list_of_memory_that_is_being_written_is_not_believed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(owned_module, "_TOLD_S", 0.05)
    written = WrittenRegion(2)
    slot = written.set(0, "RUNNING", "USER")
    slot.nr_ranges, slot.range[0].start, slot.range[0].size = 1, GIB, GIB
    slot.range_seq = 3
    with pytest.raises(GuestError, match="kernel 0 does not tell what memory it has"):
        live_kernels(written.region())
    slot.range_seq = 4
    assert live_kernels(written.region())[0].memory == (Window(start=GIB, size=GIB, node=0),)


@pytest.mark.parametrize(
    ("state", "has"), [("STARTED", True), ("STOPPING", True), ("LOADED", False), ("PARKED", False), ("DEAD", False)]
)
def test_who_may_still_use_what_it_has_has_it(state: str, has: bool) -> None:
    machine, _ = _machine(states={5: state})
    assert (5 in live_kernels(machine.region())) == has


@pytest.mark.parametrize("ended", [[5], [0, 5]])
def test_nothing_moves_where_the_primary_cannot_or_is_dead(ended: list[int]) -> None:
    plan = make_plan(load_machine("small"), "per-core") if ended == [5] else PLAN
    machine, primary = _machine(plan, ended=ended)
    take_back(machine, [5])
    make_room(machine, [5])
    assert (primary.orders, primary.waited) == ([], 0)


def test_a_primary_whose_memory_is_in_use_is_told_of_before_anything_moves() -> None:
    machine, primary = _machine(_ALL, total=4 * GIB, available=2 * GIB)
    live = live_kernels(machine.region())
    giving = Moves(give_memory=(Window(start=0x100000000, size=2 * GIB, node=1),))
    with pytest.raises(UserError, match=r"the primary uses 2 GiB of its memory, and 20\d\d\.\d MiB are left") as caught:
        gives_first(machine, live, giving)
    assert "--size 0=SIZE" in (caught.value.hint or "")
    assert primary.orders == []
    # As much comes as goes.
    gives_first(machine, live, replace(giving, take_memory=(Window(start=1 << 40, size=2 * GIB, node=1),)))
    primary.available = 3 * GIB
    gives_first(machine, live, giving)
