# SPDX-License-Identifier: Apache-2.0
"""All 48 kernels of the paper's machine exchange messages with all others."""

from __future__ import annotations

import pytest
from messages import answers, assert_both_sides_agree, counters

from popcorn.testing import Everywhere

pytestmark = pytest.mark.machine("paper", policy="per-core")

_EACH = 20


def test_all_kernels_exchange_messages_with_all_others(kernels: list[int], everywhere: Everywhere) -> None:
    assert len(kernels) == 48
    told = everywhere(f"popcorn-msg stream all -n {_EACH} -l 64")
    delivered = {(id, line["to"]): line["delivered"] for id, text in told.items() for line in answers(text)}
    assert delivered == {(one, other): _EACH for one in kernels for other in kernels if one != other}
    assert_both_sides_agree(counters(everywhere))
