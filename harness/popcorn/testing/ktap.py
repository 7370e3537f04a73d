# SPDX-License-Identifier: Apache-2.0
"""Results of KUnit and kselftest (Documentation/dev-tools/ktap.rst).

Tests nest by indentation, as KUnit writes them, or as comments, as kselftest's runner hands on what its programs
print. What stands between results is kept as the diagnostics of the next one. Lines before the first version line
belong to somebody else, as on a console.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

Status = Literal["passed", "failed", "skipped", "missing"]

_PRINTK = re.compile(r"^(?:<\d+>)?\[ *\d+\.\d+\](?:\[ *[TC]\d+\])? ?")
_VERSION = re.compile(r"^( *)(?:KTAP version \d+|TAP version 1[34])$")
_PLAN = re.compile(r"^( *)1\.\.(\d{1,9})(?: *#.*)?$")
_RESULT = re.compile(r"^( *)(ok|not ok)(?= |#|$)(?: (\d{1,9})(?= |#|$))?(.*)$")
_HASH = re.compile(r"(?<!\\)#")
_BAIL_OUT = re.compile(r"^ *Bail out!(.*)$")
_SUBTEST = re.compile(r"^( *)# Subtest: (.*)$")
_MODULE = re.compile(r"^ *# module: .*$")
_DIRECTIVE = re.compile(r"^ *(SKIP|TODO|XFAIL)\b")


@dataclass(frozen=True)
class Result:
    """One test, or several together."""

    name: str
    status: Status
    remark: str = ""
    """Why it was skipped, or what else the line says."""
    diagnostics: tuple[str, ...] = ()
    """What was printed before it, since the result before."""
    children: tuple[Result, ...] = ()

    @property
    def failed(self) -> bool:
        return self.status in ("failed", "missing")


@dataclass
class _Level:
    """What was seen of the tests with one indentation."""

    results: list[Result] = field(default_factory=list)
    planned: int | None = None
    numbers: set[int] = field(default_factory=set)
    repeated: int = 0
    """Results with the number of another: the same test again, which does not stand for a planned one."""
    of: str = ""
    """What they are parts of, if that was said before."""

    @property
    def seen(self) -> int:
        return len(self.results) - self.repeated

    @property
    def whole(self) -> bool:
        return self.planned is not None and self.seen >= self.planned

    def plan(self, count: int) -> None:
        """Take a plan; a second one takes nothing back."""
        self.planned = max(count, self.planned or 0)

    def add(self, result: Result, number: int | None) -> None:
        if number is not None:
            self.repeated += number in self.numbers
            self.numbers.add(number)
        self.results.append(result)

    def missing(self, *, one_more: bool = False) -> list[Result]:
        """What stands for the planned tests without a result.

        Args:
            one_more: whether one of them is there, unfinished.
        """
        seen = self.seen + one_more
        if self.planned is None or seen >= self.planned:
            return []
        numbers = f"{seen + 1}" if seen + 1 == self.planned else f"{seen + 1} to {self.planned}"
        return [Result(f"test {numbers} of {self.planned}", "missing", "planned, and printed no result")]


def parse(lines: Iterable[str]) -> list[Result]:
    """The outermost results in the order they were printed, with those that they consist of.

    A test that was planned and printed no result is missing: its kernel or program ended before it. One that bails out
    fails, though no plan tells what else there was.
    """
    documents: list[Result] = []
    levels: dict[int, _Level] = {}
    since: list[str] = []
    begun = False
    for line in lines:
        text = _PRINTK.sub("", line.rstrip())
        if version := _VERSION.match(text):
            if begun and not version[1] and (levels or since):
                documents += _finish(levels, since)
                levels, since = {}, []
            begun = True
        elif not begun:
            continue
        elif plan := _PLAN.match(text):
            levels.setdefault(len(plan[1]), _Level()).plan(int(plan[2]))
        elif result := _RESULT.match(text):
            _take(levels, result, since)
            since = []
            if 0 in levels and levels[0].whole:
                # What follows is somebody else's, until the next version line.
                documents += levels[0].results
                levels, begun = {}, False
        elif bail_out := _BAIL_OUT.match(text):
            found = _finish(levels, [*since, f"Bail out!{bail_out[1]}"])
            if not any(one.status == "missing" for _, one in leaves(found)):
                found.append(Result("Bail out!", "failed", bail_out[1].strip(), tuple(since)))
            documents += found
            levels, since, begun = {}, [], False
        elif subtest := _SUBTEST.match(text):
            levels.setdefault(len(subtest[1]), _Level()).of = subtest[2]
        elif not _MODULE.match(text):
            since.append(text.strip())
    return documents + _finish(levels, since) if begun else documents


def leaves(results: Sequence[Result], above: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Result]]:
    """The single tests by the names above them; also what failed as a whole though no part of it did."""
    for result in results:
        path = (*above, result.name)
        yield from leaves(result.children, path)
        if not result.children or (result.failed and not any(_any_failed(result.children))):
            yield path, result


def title(path: Sequence[str], result: Result) -> str:
    """What a result that failed goes by."""
    return f"{' '.join(path)}: {'printed no result' if result.status == 'missing' else 'not ok'}"


def _any_failed(results: Sequence[Result]) -> Iterator[bool]:
    for result in results:
        yield result.failed
        yield from _any_failed(result.children)


def _take(levels: dict[int, _Level], found: re.Match[str], since: list[str]) -> None:
    depth = len(found[1])
    children = _close_below(levels, depth)
    diagnostics = tuple(since)
    if not children:
        children, diagnostics = _in_comments(diagnostics)
    level = levels.setdefault(depth, _Level())
    description, remark = _cut(found[4])
    name = description.removeprefix("- ").replace("\\#", "#") or f"test {found[3] or len(level.results) + 1}"
    status: Status = "passed" if found[2] == "ok" else "failed"
    directive = _DIRECTIVE.match(remark.upper())
    if directive and (status == "passed" or directive[1] in ("TODO", "XFAIL")):
        status = "skipped"
    level.add(Result(name, status, remark, diagnostics, tuple(children)), int(found[3]) if found[3] else None)


def _cut(text: str) -> tuple[str, str]:
    """What stands before and behind the first hash sign that is meant as one."""
    before, *behind = _HASH.split(text, maxsplit=1)
    return before.strip(), "".join(behind).strip()


def _close_below(levels: dict[int, _Level], depth: int) -> list[Result]:
    """The results that lie deeper, as one test's parts."""
    children: list[Result] = []
    for deeper in sorted((one for one in levels if one > depth), reverse=True):
        level = levels.pop(deeper)
        # What lost its own parent to a kernel's end stays visible.
        children = [*level.results, *level.missing(one_more=bool(children)), *children]
    return children


def _finish(levels: dict[int, _Level], since: list[str]) -> list[Result]:
    """The results of a document that has ended: what is open has no result of its own."""
    of = next((level.of for depth, level in sorted(levels.items()) if depth and level.of), "unfinished")
    children = _close_below(levels, 0)
    level = levels.get(0, _Level())
    missing = level.missing(one_more=bool(children))
    if not children:
        return level.results + _told(missing, since)
    open_one = Result(of, "missing", "it printed no result", (), tuple(_told(children, since)))
    return [*level.results, open_one, *missing]


def _told(results: list[Result], said: Sequence[str]) -> list[Result]:
    """The same, and the first of them that is missing with what was said last."""
    number = next((index for index, one in enumerate(results) if one.status == "missing"), None)
    if number is not None:
        results[number] = replace(results[number], diagnostics=tuple(said))
    return results


def _in_comments(diagnostics: tuple[str, ...]) -> tuple[list[Result], tuple[str, ...]]:
    """Results that a program printed and its runner passed on as comments, and what else was said."""
    inner = [line.removeprefix("#").removeprefix(" ") for line in diagnostics if line.startswith("#")]
    if not any(_VERSION.match(line) for line in inner):
        return [], diagnostics
    return parse(inner), tuple(line for line in diagnostics if not line.startswith("#"))
