# SPDX-License-Identifier: Apache-2.0
"""What a flavour needs is known before anything is built or booted."""

from __future__ import annotations

import pytest

from popcorn.config import load_machine
from popcorn.config.sizes import MIB
from popcorn.errors import UserError
from popcorn.machine.assemble import for_flavour
from popcorn.machine.limits import expected_bytes, require_room
from popcorn.plan import make_plan

SMALL = load_machine("small")


def test_a_secondary_too_small_for_the_debug_kernel_is_refused() -> None:
    plan = make_plan(SMALL, "per-core", sizes={3: 96 * MIB})
    require_room(plan, "default")
    with pytest.raises(UserError, match=r"kernel 3 has 96 MiB.* flavour debug needs 128 MiB") as refused:
        require_room(plan, "debug")
    assert "--size 3=128M" in refused.value.hint


def test_a_secondary_with_just_enough_is_not_refused() -> None:
    require_room(make_plan(SMALL, "per-core", sizes={3: 128 * MIB}), "debug")


def test_the_debug_kernel_shadows_all_memory() -> None:
    """KASAN keeps a byte for each eight."""
    plan = make_plan(SMALL, "per-core")
    memory = sum(partition.memory_bytes for partition in plan.partitions)
    assert expected_bytes(plan, "debug") > expected_bytes(plan, "default") + memory // 8


def test_kernels_of_the_debug_flavour_get_its_parameters_last_and_others_none() -> None:
    plan = make_plan(SMALL, "per-core")
    first = plan.primary  # which a plan remembers
    assert for_flavour(plan, "default") is plan
    fitted = for_flavour(plan, "debug")
    assert fitted.primary.cmdline == f"{first.cmdline} percpu_alloc=embed"
    assert all(one.cmdline.endswith(" percpu_alloc=embed") for one in fitted.partitions)


def test_secondaries_of_another_flavour_alone_get_its_parameters() -> None:
    plan = make_plan(SMALL, "per-core")
    fitted = for_flavour(plan, "default", "debug")
    assert fitted.primary == plan.primary
    assert all(one.cmdline.endswith(" percpu_alloc=embed") for one in fitted.secondaries)
