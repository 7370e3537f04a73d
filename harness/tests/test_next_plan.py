# SPDX-License-Identifier: Apache-2.0
"""Plans between which a machine goes while it is up, and what has to move from one to another."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Mapping

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from popcorn.config import Machine, Node, load_machine
from popcorn.config.sizes import GIB, MIB
from popcorn.errors import UserError
from popcorn.plan import Plan, Window, make_plan, read_plan, validate
from popcorn.plan.change import next_plan, parameters_of, require_reachable
from popcorn.plan.memory import SECTION, region_size
from popcorn.plan.moves import Moves, Owned, inside, left_behind, missing, moves
from popcorn.plan.windows import subtract

SMALL = load_machine("small")
PAPER = load_machine("paper")


def _live(plan: Plan) -> dict[int, Owned]:
    """What the kernels of a machine tell that is cut so, in the words of a kernel."""
    owned = {}
    for partition in plan.partitions:
        windows = [window.model_copy(update={"node": 0}) for window in partition.memory]
        if partition.is_primary:
            # The firmware's parts of the first MiB and of the end of the RAM below the hole.
            end = max(piece.end for piece in plan.machine.ram if piece.end <= plan.machine.hole.start)
            windows = [Window(start=0x1000, size=0x9E000, node=0), *windows, Window(start=end, size=0x1E0000, node=0)]
        owned[partition.id] = Owned(partition.cpus, tuple(windows))
    return owned


def _carried_out(todo: Moves, live: Mapping[int, Owned], target: Plan) -> dict[int, Owned]:
    """What is then."""
    after = {id: owned for id, owned in live.items() if id not in todo.stop}
    has = after[0]
    memory = subtract([*has.memory, *todo.take_memory], todo.give_memory)
    cpus = tuple(sorted((set(has.cpus) | set(todo.take_cpus)) - set(todo.give_cpus)))
    after[0] = Owned(cpus, tuple(memory))
    for id in todo.start:
        partition = target.partition(id)
        after[id] = Owned(partition.cpus, partition.memory)
    return after


@st.composite
def _machines(draw: st.DrawFn) -> Machine:
    nr_nodes = draw(st.integers(1, 4))
    cores = draw(st.integers(1, 4))
    nodes = tuple(
        Node(cpus=tuple(range(node * cores, (node + 1) * cores)), memory=draw(st.integers(256, 1024)) * 2 * MIB)
        for node in range(nr_nodes)
    )
    return Machine(name="drawn", sockets=nr_nodes, cores=cores, nodes=nodes)


@st.composite
def _policies(draw: st.DrawFn, machine: Machine) -> str:
    named = draw(st.sampled_from(["hotplug", "per-core", "per-node", "per-socket", "", ""]))
    if named:
        return named
    owner = [0, *(draw(st.integers(-1, 4)) for _ in range(machine.nr_cpus - 1))]
    groups = [[str(cpu) for cpu, kernel in enumerate(owner) if kernel == wanted] for wanted in range(5)]
    return ";".join(",".join(group) for group in groups if group)


@settings(max_examples=150)
@given(st.data())
def test_a_machine_goes_from_any_plan_to_any_other_and_moves_only_what_changes(data: st.DataObject) -> None:
    machine = data.draw(_machines())
    plan = None
    with contextlib.suppress(UserError):
        plan = make_plan(machine, data.draw(st.sampled_from(["hotplug", "hotplug", "per-core", "per-node"])))
    if plan is None:
        return
    live = _live(plan)
    for _ in range(3):
        policy = data.draw(_policies(machine))
        memory = data.draw(st.sampled_from(["numa", "numa", "flat"]))
        try:
            target = next_plan(plan, policy, memory=memory)
        except UserError:
            continue
        validate(target)
        require_reachable(plan, target)
        todo = moves(live, target)
        for id in todo.untouched:
            assert target.partition(id) == plan.partition(id)
        live = _carried_out(todo, live, target)
        _assert_nothing_is_anybodys_twice(target, live)
        assert not moves(live, target).any
        # Who is interrupted after the new plan was told asks for it once more.
        assert next_plan(target, policy, memory=memory) == target
        plan = target


def _assert_nothing_is_anybodys_twice(plan: Plan, live: Mapping[int, Owned]) -> None:
    windows = sorted(
        [(window.start, window.end) for owned in live.values() for window in inside(plan, owned.memory)]
        + [(plan.region.start, plan.region.end)]
    )
    assert all(left[1] <= right[0] for left, right in itertools.pairwise(windows))
    cpus = [cpu for owned in live.values() for cpu in owned.cpus]
    assert len(cpus) == len(set(cpus))


def test_the_primary_of_policy_hotplug_owns_everything_and_boots_with_little() -> None:
    plan = make_plan(PAPER, "hotplug")
    assert plan.hotplug is not None
    assert plan.primary.cpus == tuple(range(48))
    everything = sum(piece.size for piece in PAPER.ram)
    assert plan.primary.memory_bytes == everything - region_size(48)
    assert sum(window.size for window in plan.hotplug.memory) < 512 * MIB
    words = plan.primary.cmdline.split()
    assert "present_mask=0-47" in words
    assert "memmap=62G$0x100000000" in words
    assert "memory_hotplug.memmap_on_memory=force" in words


def test_what_moves_is_whole_sections() -> None:
    plan = next_plan(make_plan(PAPER, "hotplug"), "per-core")
    for partition in plan.secondaries:
        for window in partition.memory:
            assert window.start % SECTION == 0
            assert window.end % SECTION == 0
    sizes = [partition.memory_bytes for partition in plan.secondaries]
    assert max(sizes) - min(sizes) == SECTION


def test_kernels_whose_cpus_stay_keep_their_memory_and_go_on() -> None:
    before = next_plan(make_plan(SMALL, "hotplug"), "per-core")
    after = next_plan(before, "0-1;2;3;4-7")
    todo = moves(_live(before), after)
    assert todo.untouched == (2, 3)
    assert todo.stop == (1, 4, 5, 6, 7)
    assert todo.take_cpus == (1,)
    assert [(window.start, window.size) for window in todo.take_memory] == [(0x18000000, 512 * MIB)]
    assert (todo.give_cpus, todo.give_memory) == ((), ())
    assert todo.start == (4,)


def test_a_new_kernel_gets_room_from_those_that_would_leave_it_less_than_half_of_its_part() -> None:
    before = next_plan(make_plan(SMALL, "hotplug"), "0;1")
    after = next_plan(before, "0;1;2;3")
    assert min(partition.memory_bytes for partition in after.partitions) >= 448 * MIB


def test_a_size_is_made_room_for_by_the_kernels_of_its_node() -> None:
    before = next_plan(make_plan(SMALL, "hotplug"), "per-core")
    after = next_plan(before, "per-core", sizes={4: GIB})
    assert after.partition(4).memory_bytes == GIB
    assert moves(_live(before), after).untouched == (0, 1, 2, 3)
    assert next_plan(after, "per-core", sizes={4: GIB}) == after


def test_what_was_interrupted_goes_on_where_it_is() -> None:
    before = make_plan(SMALL, "hotplug")
    target = next_plan(before, "per-core")
    whole = moves(_live(before), target)
    half = {0: Owned((0, 1, 2, 3), _live(before)[0].memory)}
    rest = moves(half, target)
    assert rest.give_cpus == (1, 2, 3)
    assert rest.give_memory == whole.give_memory
    assert rest.start == whole.start
    started = _carried_out(rest, half, target)
    del started[5]
    assert moves(started, target).start == (5,)


def test_what_a_kernel_leaves_behind_comes_to_the_primary_and_goes_when_it_starts_again() -> None:
    plan = next_plan(make_plan(SMALL, "hotplug"), "per-core")
    before = _live(plan)
    without = {id: owned for id, owned in before.items() if id not in (2, 5)}
    # Kernel 2 has ended as well, and is left alone.
    taken = left_behind(without, plan, [5])
    assert taken == Moves(take_memory=plan.partition(5).memory, take_cpus=(5,))
    assert left_behind(before, plan, [5]) == Moves()
    after = _carried_out(taken, without, plan)
    assert left_behind(after, plan, [5]) == Moves()
    given = missing(after, plan, [2, 5])
    assert given == Moves(give_memory=plan.partition(5).memory, give_cpus=(5,))
    again = _carried_out(given, after, plan)
    assert again[0].cpus == without[0].cpus
    assert not subtract(again[0].memory, without[0].memory)
    assert missing(again, plan, [2, 5]) == Moves()


def test_what_another_kernel_has_by_now_is_not_left_behind() -> None:
    plan = next_plan(make_plan(SMALL, "hotplug"), "0-3;4-7")
    live = _live(plan)
    theirs = live.pop(4)
    live[6] = Owned((6, 7), (theirs.memory[0].model_copy(update={"size": SECTION}),))
    taken = left_behind(live, plan, [4])
    assert taken.take_cpus == (4, 5)
    assert sum(window.size for window in taken.take_memory) == plan.partition(4).memory_bytes - SECTION


def test_secondaries_move_among_themselves_below_a_primary_that_cannot() -> None:
    before = make_plan(SMALL, "per-core")
    after = next_plan(before, "0;1-3;4-7")
    assert after.primary == before.primary
    todo = moves(_live(before), after)
    assert todo.untouched == (0,)
    assert (todo.take_cpus, todo.give_cpus, todo.take_memory, todo.give_memory) == ((), (), (), ())


@pytest.mark.parametrize(
    ("policy", "told"),
    [
        ("hotplug", "CPU 1-7 cannot come to the primary"),
        ("0-1;2", "CPU 1 cannot come to the primary"),
        ("smp", "booted anew"),
        ("1;2-3", "gives CPU 0 to no kernel"),
    ],
)
def test_what_cannot_move_is_named(policy: str, told: str) -> None:
    with pytest.raises(UserError, match=told):
        next_plan(make_plan(SMALL, "per-core"), policy)


def test_a_cpu_without_which_the_primary_booted_is_named() -> None:
    plan = make_plan(SMALL, "per-node")
    with pytest.raises(UserError, match="CPU 1-3 cannot leave the primary"):
        next_plan(plan, "per-core")


def test_a_plan_that_moves_the_region_the_devices_or_the_primarys_own_memory_is_refused() -> None:
    plan = next_plan(make_plan(SMALL, "hotplug"), "0-3;4-7")
    cannot: dict[str, dict[str, object]] = {
        "the shared region": {"region": Window(start=0x10000000, size=plan.region.size, node=0)},
        "what the primary boots with": {"hotplug": None},
        "the devices of the primary": {
            "partitions": (plan.primary.model_copy(update={"devices": ()}), *plan.secondaries)
        },
    }
    for name, update in cannot.items():
        with pytest.raises(UserError, match=name):
            require_reachable(plan, Plan(**{field: getattr(plan, field) for field in Plan.model_fields} | update))
    with pytest.raises(UserError, match="the machine cannot change"):
        require_reachable(plan, make_plan(PAPER, "hotplug"))


def test_a_plan_that_gives_away_what_the_primary_boots_with_is_refused() -> None:
    plan = make_plan(SMALL, "hotplug")
    first, *others = plan.primary.memory
    smaller = Window(start=first.start, size=first.size - SECTION, node=0)
    bad = plan.with_partitions([plan.primary.model_copy(update={"memory": (smaller, *others)})])
    with pytest.raises(UserError, match="cannot give it away"):
        validate(bad)


def test_a_plan_that_cuts_a_block_of_memory_is_refused() -> None:
    plan = next_plan(make_plan(SMALL, "hotplug"), "0-3;4-7")
    cut = Window(start=0x100000000, size=SECTION + 2 * MIB, node=1)
    bad = plan.with_partitions([plan.primary, plan.partition(4).model_copy(update={"memory": (cut,)})])
    with pytest.raises(UserError, match="not aligned to 128 MiB"):
        validate(bad)


def test_a_hotplug_plan_survives_being_written_and_read() -> None:
    plan = next_plan(make_plan(SMALL, "hotplug", extra_cmdline="a=b"), "per-core", parameters="c=d")
    assert read_plan(plan.to_json()) == plan


def test_the_words_that_somebody_added_are_found_again() -> None:
    plan = next_plan(make_plan(SMALL, "hotplug", extra_cmdline="a=b"), "per-core", parameters="c=d e")
    assert parameters_of(plan, plan.primary) == "a=b"
    assert parameters_of(plan, plan.partition(3)) == "c=d e"


def test_a_machine_with_too_little_memory_below_the_hole_cannot_boot_for_hotplug() -> None:
    tiny = Machine(name="tiny", sockets=1, cores=2, nodes=(Node(cpus=(0, 1), memory=512 * MIB),))
    with pytest.raises(UserError, match="too little memory below"):
        make_plan(tiny, "hotplug")
