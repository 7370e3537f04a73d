# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest
from kills import KILLS, kills


@pytest.mark.parametrize("stage", ["build", "boot", "exec", "suite", "report"])
def test_kills_are_spread_and_the_same_everywhere(stage: str) -> None:
    chosen = kills(stage)
    assert chosen == kills(stage)
    assert [int(kill.share * KILLS) for kill in chosen] == list(range(KILLS))
    assert {kill.group for kill in chosen} == {False, True}
