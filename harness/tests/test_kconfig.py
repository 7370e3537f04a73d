# SPDX-License-Identifier: Apache-2.0
"""What fragments ask for, and whether it was obtained."""

from __future__ import annotations

import pytest

from popcorn.build.kconfig import final_requests, fragments, parse_fragment, requests_of, unmet_requests
from popcorn.build.series import load_series
from popcorn.errors import UserError


def test_all_kinds_of_values_are_read() -> None:
    text = '# about\nCONFIG_A=y\nCONFIG_B=12\nCONFIG_C="a b"\n# CONFIG_D is not set\nCONFIG_E=0x1f\nCONFIG_F=n\n\n'
    assert [(r.symbol, r.value) for r in parse_fragment(text, "x")] == [
        ("A", "y"),
        ("B", "12"),
        ("C", '"a b"'),
        ("D", "n"),
        ("E", "0x1f"),
        ("F", "n"),
    ]


def test_comment_that_mentions_a_symbol_is_no_request() -> None:
    assert parse_fragment("# CONFIG_A=y would be slow\n#CONFIG_B=y\n", "x") == []


@pytest.mark.parametrize("line", ["CONFIG_A", "CONFIG_A = y", "A=y", "CONFIG_A=yes", "config A"])
def test_line_that_is_no_request_is_refused_with_its_number(line: str) -> None:
    with pytest.raises(UserError, match=r"base\.config:2: .* is no configuration line"):
        parse_fragment(f"# first\n{line}\n", "base.config")


def test_later_request_replaces_an_earlier_one() -> None:
    parsed = parse_fragment("CONFIG_A=y\n", "a") + parse_fragment("# CONFIG_A is not set\n", "b")
    assert [(r.value, r.where) for r in final_requests(parsed)] == [("n", "b:1")]


def test_missing_symbol_is_unmet_and_says_where_it_was_asked_for() -> None:
    requests = parse_fragment("CONFIG_A=y\nCONFIG_B=y\n", "a.config")
    unmet = unmet_requests(requests, "CONFIG_A=y\n# CONFIG_B is not set\n")
    assert [(u.request.symbol, u.got, u.request.where) for u in unmet] == [("B", "n", "a.config:2")]


def test_other_value_is_unmet() -> None:
    requests = parse_fragment("CONFIG_A=64\n# CONFIG_B is not set\n", "a.config")
    unmet = unmet_requests(requests, "CONFIG_A=8\nCONFIG_B=y\n")
    assert [(u.request.symbol, u.got) for u in unmet] == [("A", "8"), ("B", "y")]


def test_absent_symbol_fulfils_a_request_for_not_set() -> None:
    assert unmet_requests(parse_fragment("# CONFIG_A is not set\n", "a"), "") == []


def test_symbol_that_begins_like_another_is_not_confused_with_it() -> None:
    assert len(unmet_requests(parse_fragment("CONFIG_A=y\n", "a"), "CONFIG_A_LONG=y\n")) == 1


@pytest.mark.parametrize("flavour", ["default", "debug"])
def test_every_fragment_of_the_project_can_be_read(flavour: str) -> None:
    assert requests_of(fragments(load_series("6.12"), flavour))


def test_kernel_without_the_series_asks_for_none_of_its_symbols() -> None:
    requests = requests_of(fragments(load_series("6.12"), "debug", popcorn=False), popcorn=False)
    assert not [r for r in requests if r.symbol.startswith("POPCORN")]


def test_unknown_flavour_lists_those_that_exist() -> None:
    with pytest.raises(UserError, match="no flavour 'fast'") as caught:
        fragments(load_series("6.12"), "fast")
    assert "default, debug" in caught.value.hint
