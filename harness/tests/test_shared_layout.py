# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from shared_region import SIZE, START, WrittenRegion, contract_header

from popcorn.errors import HostError, PopcornError
from popcorn.machine.layout import Layout, NotFormattedError, Region


def test_constants_come_from_the_header() -> None:
    layout = Layout(contract_header().replace("POPCORN_STATE_PARKED\t5", "POPCORN_STATE_PARKED\t55"))
    assert layout.state_name(55) == "parked"
    assert layout.state_name(5) == "unknown(5)"
    assert layout.stage_number("user") == 7


def test_a_field_that_moves_in_the_header_is_still_read() -> None:
    written = WrittenRegion()
    written.set(1, "running", "user").mem_free = 42
    header = contract_header().replace("__u64 mem_free;", "").replace("__u64 heartbeat;", "__u64 mem_free, heartbeat;")
    moved = Layout(header)
    region = Region(moved, bytes(written.memory), START)
    assert written.region().slot(1).mem_free == 42
    assert region.slot(1).mem_free != 42


def test_a_header_without_what_is_read_is_refused() -> None:
    with pytest.raises(HostError, match=r"popcorn\.h cannot be read"):
        Layout(contract_header().replace("POPCORN_SLOT_PRIMARY", "POPCORN_SLOT_FIRST"))
    with pytest.raises(HostError, match=r"popcorn\.h cannot be read"):
        Layout("struct popcorn_header {")


def test_a_slot_says_what_its_kernel_wrote() -> None:
    written = WrittenRegion()
    slot = written.set(2, "running", "user")
    slot.cpus[0] = 1 << 2 | 1 << 63
    slot.cpus[1] = 1
    slot.nr_ranges = 1
    slot.range[0].start, slot.range[0].size = 0x40000000, 0x200000
    slot.release = b"6.12.0-popcorn"
    slot.flags = 1
    seen = written.region().slot(2)
    assert (seen.state, seen.stage, seen.primary) == ("running", "user", True)
    assert seen.cpus == (2, 63, 64)
    assert [(window.start, window.size) for window in seen.ranges] == [(0x40000000, 0x200000)]
    assert seen.release == "6.12.0-popcorn"


def test_a_region_without_magic_is_not_formatted() -> None:
    region = Region(Layout(contract_header()), bytes(SIZE), START)
    assert not region.formatted()
    with pytest.raises(NotFormattedError, match="expected magic"):
        region.slot(0)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("version", 99),
        ("start", 0),
        ("size", SIZE * 2),
        ("nr_kernels", 0),
        ("nr_kernels", 1000),
        ("slot_offset", 1 << 63),
        ("slot_stride", 8),
        ("slot_stride", (1 << 64) - 8),
        ("log_offset", SIZE),
        ("log_stride", 0),
        ("nr_ram", 65),
        ("nr_cpus", 513),
    ],
)
def test_a_header_that_cannot_be_true_is_told_as_damaged(field: str, value: int) -> None:
    written = WrittenRegion()
    setattr(written.header, field, value)
    with pytest.raises(NotFormattedError, match="damaged"):
        written.region().header()


def test_lengths_beyond_their_arrays_are_cut() -> None:
    written = WrittenRegion()
    slot = written.slot(0)
    slot.nr_ranges = 0xFFFFFFFF
    written.layout.ffi.buffer(slot.release)[:] = b"\xff\n" * (len(slot.release) // 2)
    seen = written.region().slot(0)
    assert len(seen.ranges) == len(slot.range)
    assert seen.release.isprintable()


@given(noise=st.binary(min_size=64, max_size=600), at=st.integers(min_value=8, max_value=0x10000 + 4096))
def test_noise_gives_an_error_of_ours_or_values_but_no_crash(noise: bytes, at: int) -> None:
    written = WrittenRegion(nr_kernels=2)
    written.memory[at : at + len(noise)] = noise
    region = Region(written.layout, bytes(written.memory), START)
    try:
        for slot in region.slots():
            region.log_tail(slot.id)
            region.tsc_khz()
        region.log_heads()
    except PopcornError:
        pass


def test_the_ring_gives_the_last_of_what_was_printed() -> None:
    written = WrittenRegion()
    written.log(1, b"hello\n")
    assert written.region().log_tail(1) == b"hello\n"
    written.log(1, b"x" * written.log_size + b"tail")
    tail = written.region().log_tail(1)
    assert len(tail) == written.log_size
    assert tail.endswith(b"xtail")


def test_the_ring_does_not_give_what_is_being_overwritten() -> None:
    written = WrittenRegion()
    written.log(1, b"a" * written.log_size)
    written.begin_log(1, b"b", claimed=10)
    assert written.region().log_tail(1) == b"a" * (written.log_size - 10)


@pytest.mark.parametrize("ahead", [-1, 1 << 32, (1 << 64) - 1])
def test_a_claim_that_cannot_be_counts_for_nothing(ahead: int) -> None:
    written = WrittenRegion()
    written.log(1, b"a" * (written.log_size + 5))
    written.slot(1).log_claimed = (written.slot(1).log_head + ahead) % (1 << 64)
    assert written.region().log_oldest(1) == 5
    assert len(written.region().log_tail(1)) == written.log_size


def test_the_rate_of_the_clock_is_known_when_the_primary_has_measured_it() -> None:
    written = WrittenRegion()
    region = written.region()
    assert region.tsc_khz() is None
    written.header.tsc_khz = 2445382
    assert region.tsc_khz() == 2445382
