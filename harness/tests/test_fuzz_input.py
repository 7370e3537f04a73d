# SPDX-License-Identifier: Apache-2.0
"""Whatever a user writes is understood or refused in words: machines, plans, series, CPU lists, sizes."""

from __future__ import annotations

import contextlib
import json
import os
import re
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from test_plan import machines, plans

from popcorn import cpulist
from popcorn.build.basefile import load_base_file
from popcorn.build.series import patch_names
from popcorn.config import Machine, load_machine
from popcorn.config.machine import FIRST_MIB
from popcorn.config.sizes import format_size, kernel_size, parse_size
from popcorn.config.toml import parse_toml
from popcorn.config.write import machine_toml
from popcorn.dirs import source_root
from popcorn.errors import PopcornError, UserError
from popcorn.plan import Plan, make_plan, read_plan, validate
from popcorn.plan.collect import unpack

_MANY_DIGITS = "9" * 5000
_DEEP = "[" * 5000
# What breaks parsers, beside whatever text hypothesis thinks of.
_NASTY = ("", "\0", "-1", "0x", "1e999", "nan", "inf", "🍿", "\u0663", "../..", "${x}", "$(x)", _MANY_DIGITS, _DEEP)
_VALUES: st.SearchStrategy[Any] = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(1 << 70), 1 << 70),
    st.floats(),
    st.text(max_size=12),
    st.sampled_from(_NASTY),
    st.just([]),
    st.just({}),
    st.lists(st.integers(-1, 70000), max_size=4),
)
_MACHINES = sorted((source_root() / "harness/popcorn/config/machines").glob("*.toml"))


@st.composite
def spoiled(draw: st.DrawFn, text: str) -> str:
    """A text of which pieces are lost, doubled, replaced or moved."""
    for _ in range(draw(st.integers(1, 4))):
        begin = draw(st.integers(0, len(text)))
        end = min(len(text), begin + draw(st.integers(0, 30)))
        piece = draw(st.one_of(st.just(""), st.just(text[begin:end] * 2), st.sampled_from(_NASTY), st.text(max_size=8)))
        text = text[:begin] + piece + text[end:]
    return text


def _refused_in_words(read: Callable[[], object]) -> None:
    said = "nothing"
    try:
        read()
    except UserError as error:
        said = str(error)
    assert 0 < len(said) < 20_000


@given(st.one_of(st.text(alphabet="0123456789-,; \t", max_size=20), st.text(max_size=10), st.sampled_from(_NASTY)))
@example(_MANY_DIGITS)
@example(f"1-{_MANY_DIGITS}")
def test_a_cpu_list_is_read_or_refused(text: str) -> None:
    try:
        cpus = cpulist.parse(text)
    except UserError:
        return
    assert cpulist.parse(cpulist.format(cpus)) == cpus


@given(st.one_of(st.from_regex(r"\d{1,25} ?[KMGTiB]{0,3}", fullmatch=True), st.text(max_size=10)))
@example(_MANY_DIGITS)
@example("\u0663MiB")
def test_a_size_is_read_or_refused(text: str) -> None:
    try:
        size = parse_size(text)
    except UserError:
        return
    assert size >= 0
    assert format_size(size)


@given(st.integers(0, 1 << 60))
def test_a_size_for_the_kernel_is_exact(size: int) -> None:
    assert _memparse(kernel_size(size)) == size


@given(machines())
def test_a_machine_survives_being_written_as_toml(machine: Machine) -> None:
    read = parse_toml(machine_toml(machine), Machine, "m.toml")
    nodes = tuple(node.model_copy(update={"cpus": tuple(sorted(node.cpus))}) for node in machine.nodes)
    assert read == machine.model_copy(update={"nodes": nodes})


@pytest.mark.parametrize("path", _MACHINES, ids=lambda path: path.stem)
def test_a_spoiled_machine_is_read_or_refused(path: Path) -> None:
    @given(spoiled(path.read_text()))
    def check(text: str) -> None:
        _refused_in_words(lambda: make_plan(parse_toml(text, Machine, "m.toml"), "per-core"))

    check()


@pytest.mark.parametrize(
    "text", [f"sockets = {_MANY_DIGITS}", f"sockets = 0x{'f' * 5000}", f"nodes = {_DEEP}", "a" * 9], ids=range(4)
)
def test_a_machine_that_overtaxes_the_parser_is_refused(text: str) -> None:
    with pytest.raises(UserError):
        parse_toml(text, Machine, "m.toml")


@given(st.sampled_from(["6.12", "3.2"]).flatmap(lambda n: spoiled((_series(n) / "base.toml").read_text())))
def test_a_spoiled_base_file_is_read_or_refused(text: str) -> None:
    path = _here() / "base.toml"
    path.write_text(text, errors="surrogatepass")
    _refused_in_words(lambda: load_base_file(path))


@given(st.sampled_from(["6.12", "3.2"]).flatmap(lambda n: spoiled((_series(n) / "series").read_text())))
def test_a_spoiled_series_file_names_no_file_outside_its_folder(text: str) -> None:
    path = _here() / "series"
    path.write_text(text, errors="surrogatepass")
    with contextlib.suppress(UserError):
        for name in patch_names(path):
            assert Path(name).name == name


def _series(name: str) -> Path:
    return source_root() / "kernel-patches" / name


def _here() -> Path:
    place = Path(os.environ["POPCORN_CACHE"])
    place.mkdir(exist_ok=True)
    return place


def _places(document: Any, place: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    inside = document.items() if isinstance(document, dict) else enumerate(document)
    found = [place] if place else []
    for key, value in inside:
        found += _places(value, (*place, key)) if isinstance(value, (dict, list)) else [(*place, key)]
    return found


_PLAN = make_plan(load_machine("small"), "0-3;4,6;5").to_json()
_PLACES = _places(json.loads(_PLAN))


@given(st.lists(st.tuples(st.sampled_from(_PLACES), _VALUES), min_size=1, max_size=3))
@example([(("machine", "nodes", 0, "memory"), 1 << 66)])
@example([(("partitions", 0, "cpus"), [True])])
def test_a_plan_with_wrong_values_is_refused_or_obeys_the_rules(changes: list[tuple[tuple[Any, ...], Any]]) -> None:
    document = json.loads(_PLAN)
    for (*way, last), value in changes:
        inner = document
        with contextlib.suppress(KeyError, IndexError, TypeError):
            for key in way:
                inner = inner[key]
            inner[last] = deepcopy(value)

    def read() -> None:
        plan = read_plan(json.dumps(document))
        validate(plan)
        _assert_told(plan)

    _refused_in_words(read)


@given(spoiled(_PLAN))
def test_a_spoiled_plan_is_read_or_refused(text: str) -> None:
    _refused_in_words(lambda: validate(read_plan(text)))


@pytest.mark.parametrize("text", [_DEEP, _MANY_DIGITS, f'{{"machine": {_DEEP}', "\ud800"], ids=range(4))
def test_a_plan_that_overtaxes_the_parser_is_refused(text: str) -> None:
    with pytest.raises(UserError):
        read_plan(text)


@given(plans())
def test_kernels_read_from_their_command_lines_what_the_plan_says(plan: Plan) -> None:
    _assert_told(plan)


def _assert_told(plan: Plan) -> None:
    """As the kernels' own parsers would read them; these are written from the kernels' code, not from the harness's."""
    for partition in plan.partitions:
        words = [word.partition("=")[::2] for word in partition.cmdline.split()]
        found = dict(words)
        if plan.policy != "smp":
            assert _bitmap(found["present_mask"]) == set(partition.cpus)
            assert int(found["cpu_offset"], 0) == min(partition.cpus)
        if not partition.is_primary:
            assert "popcorn" not in found
            continue
        size, start, nr = re.fullmatch(r"(\w+)@(\w+),(\d+)", found["popcorn"]).groups()  # type: ignore[union-attr]
        assert (_memparse(size), _memparse(start)) == (plan.region.size, plan.region.start)
        assert int(nr) == plan.machine.nr_cpus
        kept_off = [value.split("$") for key, value in words if key == "memmap"]
        left = sum(piece.size for piece in plan.machine.ram)
        for length, at in kept_off:
            begin, end = _memparse(at), _memparse(at) + _memparse(length)
            inside = sum(max(0, min(end, piece.end) - max(begin, piece.start)) for piece in plan.machine.ram)
            assert inside > 0
            left -= inside
            assert all(window.end <= begin or end <= window.start for window in partition.memory)
        assert left == partition.memory_bytes
        assert min(window.start for window in partition.memory) == FIRST_MIB


def _memparse(text: str) -> int:
    """lib/cmdline.c"""
    shift = {"K": 10, "M": 20, "G": 30, "T": 40}.get(text[-1], 0)
    return int(text[:-1] if shift else text, 0) << shift


def _bitmap(text: str) -> set[int]:
    """lib/bitmap-str.c"""
    found: set[int] = set()
    for piece in text.split(","):
        first, _, last = piece.partition("-")
        found |= set(range(int(first), int(last or first) + 1))
    return found


@given(st.text(max_size=200), st.text(max_size=20))
@example("== /etc/x\nYQ==\n== end", "")
@example("== a/../../x\nYQ==\n== end", "")
def test_what_a_guest_tells_of_itself_is_written_below_the_folder_that_was_named(text: str, name: str) -> None:
    into = _here() / "probe"
    into.mkdir(exist_ok=True)
    with contextlib.suppress(PopcornError):
        unpack(text if "end" in text else f"== {name}\nYQ==\n{text}\n== end", into)
    assert {path.name for path in _here().iterdir()} <= {"probe", "base.toml", "series"}
