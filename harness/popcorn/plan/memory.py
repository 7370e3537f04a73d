# SPDX-License-Identifier: Apache-2.0
"""Which memory goes to which kernel.

The RAM is divided in blocks of 2 MiB. With ``numa`` each node is divided among
the kernels that have CPUs in it, in proportion to their number; with ``flat``
the whole RAM is divided equally in the order of addresses, whatever its node.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import accumulate, pairwise

from popcorn import cpulist
from popcorn.config.machine import FIRST_MIB, Machine
from popcorn.config.sizes import KIB, MIB, format_size
from popcorn.errors import UserError
from popcorn.plan.model import Window
from popcorn.plan.policy import Cpus
from popcorn.plan.windows import by_address

BLOCK = 2 * MIB
MIN_PARTITION = 64 * MIB
MAX_WINDOWS = 16  # POPCORN_MAX_RANGES in popcorn.h
DEFAULT_REGION = 32 * MIB
# Boot loaders put the primary's initrd at the end of the RAM below the PCI hole: the shared region keeps away, and
# the primary gets as much of it there as its own initrd takes at most, so that no other kernel's memory was used.
INITRD_ROOM = 256 * MIB
PRIMARY_INITRD = 64 * MIB
# What a kernel needs of memory for whatever cannot be moved, while it owns much more that it may have to give away.
HOTPLUG_ROOM = 320 * MIB
# Memory comes to a live kernel and goes in sections. Linux makes page arrays for whole ones: a window that ends
# inside one costs its kernel up to 2 MiB more.
SECTION = 128 * MIB


@dataclass(frozen=True)
class Pool:
    """Memory that several kernels divide: its windows by address, and how much weighs each kernel's claim."""

    name: str
    windows: tuple[Window, ...]
    claims: Mapping[int, int]
    block: int = BLOCK
    held: Mapping[int, int] = field(default_factory=dict)
    """Blocks beside the windows that a kernel has for good: they are part of what it gets."""

    @property
    def blocks(self) -> int:
        """Those that are held included."""
        return sum(window.size for window in self.windows) // self.block + sum(self.held.values())

    def holding(self, held: Mapping[int, int]) -> Pool:
        """The same, where kernels hold so many blocks beside."""
        return replace(self, held=held)


def windows_of_kernels(
    machine: Machine, groups: Sequence[Cpus], mode: str, sizes: Mapping[int, int]
) -> dict[int, tuple[Window, ...]]:
    """The memory windows of every kernel, by id; the primary's first one starts behind the first MiB.

    Args:
        mode: ``numa`` or ``flat``.
        sizes: bytes for kernels that shall not get an equal part, by id.

    Raises:
        UserError: something asked for is not there.
    """
    claims = {cpus[0]: cpus for cpus in groups}
    given = divide(pools(machine, claims, mode, whole_blocks(machine)), sizes, claims, machine)
    return {kernel: tuple(_without_first_mib(windows)) for kernel, windows in given.items()}


def pools(
    machine: Machine, claims: Mapping[int, Cpus], mode: str, ram: Sequence[Window], block: int = BLOCK
) -> list[Pool]:
    """What there is to divide, a pool a node or one in all.

    Args:
        claims: the kernels that get a part of it, and their CPUs.
        mode: ``numa`` or ``flat``.
        ram: in whole blocks.
    """
    if mode == "flat":
        return [Pool("the machine", tuple(ram), dict.fromkeys(claims, 1), block)]
    found = []
    for number, node in enumerate(machine.nodes):
        here = {kernel: len(set(cpus) & set(node.cpus)) for kernel, cpus in claims.items()}
        found.append(
            Pool(
                name=f"node {number}",
                windows=tuple(window for window in ram if window.node == number),
                claims={kernel: cpus for kernel, cpus in here.items() if cpus},
                block=block,
            )
        )
    return found


def divide(
    pools: Sequence[Pool], sizes: Mapping[int, int], kernels: Iterable[int], machine: Machine | None = None
) -> dict[int, list[Window]]:
    """What each kernel gets of some pools, beside what it holds.

    Args:
        sizes: bytes for kernels that shall not get an equal part.
        machine: given if the primary is to get room for its initrd at the right place.

    Raises:
        UserError: something asked for is not there.
    """
    given: dict[int, list[Window]] = {kernel: [] for kernel in kernels}
    asked = _asked_of_each_pool(pools, list(given), sizes)
    for pool, asked_blocks in zip(pools, asked, strict=True):
        blocks = _divide(pool, asked_blocks)
        for_initrd = _initrd_window(machine, pool, blocks) if machine is not None else None
        for kernel, windows in _cut(pool, blocks, for_initrd).items():
            given[kernel] += windows
    return given


def carve_region(machine: Machine, primary: Sequence[Window]) -> tuple[Window, tuple[Window, ...]]:
    """The shared region, taken from the primary's memory below the PCI hole, and what is left to the primary.

    Raises:
        UserError: there is no room for it.
    """
    size = region_size(machine.nr_cpus)
    low = next((window for window in primary if window.start == FIRST_MIB and window.end <= machine.hole.start), None)
    if low is None or low.size < size + MIN_PARTITION:
        raise UserError(
            f"the primary has {format_size(low.size) if low else 'no memory'} at the beginning of the RAM; "
            f"it needs {format_size(MIN_PARTITION)} there and {format_size(size)} for the memory shared by all kernels",
            hint="give it more memory with --size 0=SIZE, or plan fewer kernels in its node",
        )
    low_ram_end = max(piece.end for piece in machine.ram if piece.end <= machine.hole.start)
    end = min(low.end, (low_ram_end - INITRD_ROOM) // BLOCK * BLOCK)
    if end - size - low.start < MIN_PARTITION:
        end = low.end
    region = Window(start=end - size, size=size, node=low.node)
    left = [Window(start=low.start, size=region.start - low.start, node=low.node)]
    if region.end < low.end:
        left.append(Window(start=region.end, size=low.end - region.end, node=low.node))
    return region, tuple(left) + tuple(window for window in primary if window != low)


def hotplug_memory(machine: Machine) -> tuple[Window, tuple[Window, ...]]:
    """The shared region, and what a primary boots with that is to own all memory and give most of it away.

    As little as it needs for good: its beginning, up to the region, and the place of its initrd.

    Raises:
        UserError: there is no room for them.
    """
    size = region_size(machine.nr_cpus)
    end = -(-(HOTPLUG_ROOM + size) // SECTION) * SECTION
    low = [piece for piece in machine.ram if piece.end <= machine.hole.start]
    if not low or low[0].start != FIRST_MIB or low[0].end < end or low[-1].end - INITRD_ROOM < end:
        raise UserError(
            f"machine {machine.name} has too little memory below {machine.hole.start:#x} for the policy hotplug",
            hint=f"its primary keeps {format_size(end)} at the beginning, and its initrd lies in the last "
            f"{format_size(INITRD_ROOM)}",
        )
    region = Window(start=end - size, size=size, node=low[0].node)
    last = low[-1]
    start = max(last.start, (last.end - PRIMARY_INITRD) // SECTION * SECTION, end)
    for_initrd = Window(start=start, size=last.end // BLOCK * BLOCK - start, node=last.node)
    first = Window(start=FIRST_MIB, size=region.start - FIRST_MIB, node=low[0].node)
    return region, (first, for_initrd)


def region_size(nr_kernels: int) -> int:
    """Bytes of the shared region: header and multicast groups; for each kernel a slot, an entry in the registry,
    a console ring and a row of vty cells."""
    needed = 80 * KIB + nr_kernels * (4 * KIB + 64 * KIB + 2112) + nr_kernels * nr_kernels * 2176
    return max(DEFAULT_REGION, -(-needed // BLOCK) * BLOCK)


def whole_blocks(machine: Machine) -> list[Window]:
    """The RAM in whole blocks; the first MiB is counted in, so that the first block is whole."""
    windows = []
    for piece in machine.ram:
        start = 0 if piece.start == FIRST_MIB else -(-piece.start // BLOCK) * BLOCK
        end = piece.end // BLOCK * BLOCK
        if start < end:
            windows.append(Window(start=start, size=end - start, node=piece.node))
    return windows


def _asked_of_each_pool(
    pools: Sequence[Pool], kernels: Sequence[int], sizes: Mapping[int, int]
) -> list[dict[int, int]]:
    """Explicit sizes in blocks, spread over the pools where the kernel has a claim."""
    block = pools[0].block
    asked: list[dict[int, int]] = [{} for _ in pools]
    for kernel, size in sizes.items():
        if kernel not in kernels:
            raise UserError(
                f"a size is given for kernel {kernel}, which is not in the plan",
                hint=f"kernels are named by their smallest CPU: {', '.join(map(str, kernels))}",
            )
        if size % block or size < MIN_PARTITION:
            raise UserError(
                f"kernel {kernel} cannot have {format_size(size)} ({size} bytes)",
                hint=f"sizes are multiples of {format_size(block)} and at least {format_size(MIN_PARTITION)}",
            )
        claims = [pool.claims.get(kernel, 0) for pool in pools]
        for pool_asked, blocks, claim in zip(asked, _in_proportion(size // block, claims), claims, strict=True):
            if claim:
                pool_asked[kernel] = blocks
    return asked


def _divide(pool: Pool, asked: Mapping[int, int]) -> dict[int, int]:
    """How many blocks of a pool each kernel gets: what it asked for, or its part of the rest."""
    rest = pool.blocks - sum(asked.values())
    if rest < 0:
        raise UserError(
            f"{pool.name} has {format_size(pool.blocks * pool.block)}, "
            f"but {format_size(sum(asked.values()) * pool.block)} "
            f"are asked of it by kernel{'s' if len(asked) > 1 else ''} {cpulist.format(sorted(asked))}",
            hint="ask for less with --size",
        )
    others = [kernel for kernel in pool.claims if kernel not in asked]
    parts = dict(zip(others, _in_proportion(rest, [pool.claims[kernel] for kernel in others]), strict=True))
    for kernel, held in pool.held.items():
        if {**asked, **parts}.get(kernel, 0) < held:
            # It has more than its part: the others divide what is left.
            return _divide(pool, {**asked, kernel: held})
    return {**asked, **parts}


def _in_proportion(total: int, weights: Sequence[int]) -> list[int]:
    """Whole numbers in proportion to the weights whose sum is the total (nothing, without weights)."""
    weight_sum = sum(weights)
    if weight_sum == 0:
        return [0 for _ in weights]
    bounds = [total * so_far // weight_sum for so_far in accumulate(weights, initial=0)]
    return [right - left for left, right in pairwise(bounds)]


def _initrd_window(machine: Machine, pool: Pool, blocks: Mapping[int, int]) -> Window | None:
    """What the primary gets for its initrd, or None if this pool has no such place, or too little for the primary."""
    low = [window for window in whole_blocks(machine) if window.end <= machine.hole.start]
    if not low or low[-1] not in pool.windows:
        return None
    last = low[-1]
    start = max(last.start, (last.end - PRIMARY_INITRD) // SECTION * SECTION)
    if blocks.get(0, 0) * BLOCK < last.end - start + region_size(machine.nr_cpus) + MIN_PARTITION:
        return None
    return Window(start=start, size=last.end - start, node=last.node)


def _cut(pool: Pool, blocks: Mapping[int, int], for_initrd: Window | None) -> dict[int, list[Window]]:
    """Give out the pool's memory from its lowest address up, kernels by id; the window for the initrd goes first."""
    given: dict[int, list[Window]] = {kernel: [] for kernel in blocks}
    left = list(pool.windows)
    if for_initrd is not None:
        given[0] = [for_initrd]
        left = [_without_end(window, for_initrd) for window in left if window != for_initrd]
    for kernel in sorted(blocks):
        held = pool.held.get(kernel, 0) * pool.block + sum(window.size for window in given[kernel])
        wanted = blocks[kernel] * pool.block - held
        while wanted:
            first = left.pop(0)
            size = min(wanted, first.size)
            given[kernel].append(Window(start=first.start, size=size, node=first.node))
            if size < first.size:
                left.insert(0, Window(start=first.start + size, size=first.size - size, node=first.node))
            wanted -= size
    return {kernel: list(by_address(windows)) for kernel, windows in given.items()}


def _without_end(window: Window, end: Window) -> Window:
    if window.end != end.end:
        return window
    return Window(start=window.start, size=window.size - end.size, node=window.node)


def _without_first_mib(windows: Iterable[Window]) -> Iterable[Window]:
    for window in windows:
        lost = max(0, FIRST_MIB - window.start)
        yield Window(start=window.start + lost, size=window.size - lost, node=window.node)
