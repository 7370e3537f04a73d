# SPDX-License-Identifier: Apache-2.0
"""Reports in a real browser: at the width of a desk and of a phone, in colour and without, and without a network."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import chromium
import pytest
from chromium import Browser, Tab
from experiment_fakes import taken_run
from some_run import manifest

from popcorn.config import load_machine
from popcorn.plan import make_plan
from popcorn.plan.draw import to_svg
from popcorn.report.experiment import write_experiment_report
from popcorn.report.page import REPORT_FILE, render
from popcorn.run.results import Measurement

pytestmark = pytest.mark.skipif(
    chromium.PROGRAM is None, reason="no chromium on this host: Debian's package of that name has it"
)

_DESK, _PHONE = 1280, 360

# What sticks out of the page: all that lies beyond its edge and is in no box that scrolls by itself.
_STICKING_OUT = """[...document.body.querySelectorAll("*")]
    .filter(one => one.getBoundingClientRect().right > innerWidth + 1 && !one.closest(".wide, pre, svg"))
    .map(one => one.outerHTML.slice(0, 100))"""
_DANGLING = """(() => {
    const ids = [...document.querySelectorAll("[id]")].map(one => one.id);
    const used = [...document.documentElement.outerHTML.matchAll(/(?:url\\(|href=")#([^")]+)/g)].map(one => one[1]);
    return used.filter(one => !ids.includes(one));
})()"""
# Words of a picture that lie on other words or on the square that tells a colour; half a unit is nothing that is seen.
_OVERLAPPING = """[...document.querySelectorAll("svg")].flatMap(svg => {
    const words = [...svg.querySelectorAll("text")];
    const squares = [...svg.querySelectorAll('rect[width="12"]')];
    const box = one => one.getBoundingClientRect();
    const meet = (a, b) => box(a).left < box(b).right - 1 && box(b).left < box(a).right - 1
        && box(a).top < box(b).bottom - 1 && box(b).top < box(a).bottom - 1;
    return words.flatMap(one => [...words, ...squares].filter(other => other !== one && meet(one, other))
        .map(other => `${one.textContent} / ${other.textContent}`));
})"""


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with chromium.chromium(tmp_path_factory.mktemp("chromium") / "profile") as browser:
        yield browser


@pytest.fixture
def page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Of two runs beside a third one; a trial has no value, so that everything that a report can have is there."""
    runs = [taken_run(tmp_path / name, monkeypatch, lose=3) for name in ("a", "b")]
    return write_experiment_report(runs, compare=taken_run(tmp_path / "c", monkeypatch))


@pytest.fixture
def other_page(tmp_path: Path) -> Path:
    """What `demo` and `bench` write."""
    results = [Measurement("boot.wall", 1.0 + id / 10, "s", kernel=id) for id in range(1, 8)]
    results += [
        Measurement("npb.is.S.time", 0.1, "s", kernel=1, raw="raw/1.txt"),
        Measurement("npb.is.S.time", None, "s", kernel=2, status="void", raw="raw/2.txt"),
    ]
    path = tmp_path / REPORT_FILE
    path.write_text(render(manifest(), results, "20260101-000000-demo"), encoding="utf-8")
    return path


def _assert_in_order(tab: Tab, page: Path) -> None:
    tab.evaluate("document.querySelectorAll('details').forEach(one => one.open = true)")
    assert tab.complaints == []
    assert tab.requests == [page.as_uri()]
    assert tab.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert tab.evaluate(_STICKING_OUT) == []
    assert tab.evaluate(_DANGLING) == []
    assert tab.evaluate(_OVERLAPPING) == []


@pytest.mark.parametrize("width", [_DESK, _PHONE])
def test_the_report_of_an_experiment_is_in_order(browser: Browser, page: Path, width: int) -> None:
    tab = browser.open(page, width=width)
    _assert_in_order(tab, page)
    assert tab.evaluate("document.querySelectorAll('.figure svg').length") == 2
    links = tab.evaluate("[...document.querySelectorAll('a')].map(one => one.getAttribute('href'))")
    assert links
    assert [link for link in links if not (page.parent / link).is_file()] == []


@pytest.mark.parametrize("width", [_DESK, _PHONE])
def test_the_report_of_a_demo_is_in_order(browser: Browser, other_page: Path, width: int) -> None:
    _assert_in_order(browser.open(other_page, width=width), other_page)


@pytest.mark.parametrize("machine", ["small", "paper"])
@pytest.mark.parametrize("policy", ["smp", "per-node", "per-core"])
def test_no_words_lie_on_others_in_a_plan(browser: Browser, tmp_path: Path, machine: str, policy: str) -> None:
    path = tmp_path / "plan.html"
    path.write_text(to_svg(make_plan(load_machine(machine), policy)), encoding="utf-8")
    assert browser.open(path, width=_DESK).evaluate(_OVERLAPPING) == []
