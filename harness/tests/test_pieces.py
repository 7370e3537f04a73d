# SPDX-License-Identifier: Apache-2.0
"""Memory comes and goes in an order by which it is never in more pieces than a kernel can tell of."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from popcorn.config.sizes import GIB
from popcorn.plan import Window
from popcorn.plan.pieces import coming, going
from popcorn.plan.windows import by_address, subtract

UNIT = GIB // 2
UNITS = 24


def _windows(units: Sequence[int]) -> list[Window]:
    return list(by_address(Window(start=unit * UNIT, size=UNIT, node=0) for unit in units))


def _pieces(has: Sequence[Window]) -> int:
    return len(by_address(has))


def _units(chosen: st.DrawFn) -> tuple[list[Window], list[Window]]:
    kinds = chosen(st.lists(st.sampled_from(["own", "free", "moves"]), min_size=UNITS, max_size=UNITS))
    own = _windows([unit for unit, kind in enumerate(kinds) if kind == "own"])
    return own, _windows([unit for unit, kind in enumerate(kinds) if kind == "moves"])


@given(st.composite(_units)(), st.integers(1, 12))
def test_what_comes_or_goes_is_never_in_more_pieces_than_before_and_after(
    cut: tuple[list[Window], list[Window]], limit: int
) -> None:
    own, moving = cut
    both = list(by_address([*own, *moving]))
    for begin, end, order in (
        (own, both, coming(own, moving, limit)),
        (both, own, going(both, moving, limit)),
    ):
        has = list(begin)
        most = max(limit, _pieces(begin))
        for piece in order.pieces:
            assert piece.size <= GIB
            if begin is own:
                assert not subtract([piece], subtract([piece], has)), "it is there already"
                has = list(by_address([*has, piece]))
            else:
                has = subtract(has, [piece])
            assert _pieces(has) <= most
        assert [(window.start, window.end) for window in by_address(order.has)] == [
            (window.start, window.end) for window in by_address(has)
        ]
        # All moves, unless the end itself is too much.
        if not order.left:
            assert by_address(has) == by_address(end)
        assert order.left or sum(piece.size for piece in order.pieces) == sum(window.size for window in moving)
        if _pieces(begin) <= limit and len(moving) <= limit - _pieces(begin):
            assert not order.left


@pytest.mark.parametrize(("free", "pieces"), [((1, 2, 3), [(2, 4), (1, 2)]), ((5, 6, 7), [(5, 7), (7, 8)])])
def test_a_window_grows_from_what_is_there(free: tuple[int, ...], pieces: list[tuple[int, int]]) -> None:
    """In the other order there would be a piece more in between."""
    order = coming(_windows([4]), _windows(free), limit=1)
    assert [(piece.start // UNIT, piece.end // UNIT) for piece in order.pieces] == pieces
    assert order.left == ()


def test_what_would_be_too_many_pieces_is_left() -> None:
    order = coming(_windows([0, 4]), _windows([2, 5, 7]), limit=2)
    assert order.pieces == tuple(_windows([5]))
    assert order.left == tuple(_windows([2, 7]))
    gone = going(_windows(range(8)), _windows([0, 3, 5, 7]), limit=2)
    assert [piece.start // UNIT for piece in gone.pieces] == [0, 7, 3]
    assert gone.left == tuple(_windows([5]))


def test_what_lies_between_makes_room_for_the_rest() -> None:
    order = coming(_windows([0, 2, 4]), _windows([1, 6]), limit=3)
    assert [piece.start // UNIT for piece in order.pieces] == [1, 6]
