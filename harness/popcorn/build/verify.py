# SPDX-License-Identifier: Apache-2.0
"""Proof that a series holds: it applies, every prefix builds, the checkers are content, and off means off.

A check that passed is remembered under everything that decided it, so only what changed is checked again.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from popcorn.build.apply import Applied, apply_series
from popcorn.build.base import Base
from popcorn.build.git import linux_repository, output
from popcorn.build.kbuild import Kbuild, KernelBuildError, toolchain
from popcorn.build.kconfig import Request, configure, fragments, requests_of
from popcorn.build.lint import CHECKPATCH_IGNORED, Finding, added, checkpatch, sparse_findings
from popcorn.build.objcompare import compare_builds
from popcorn.build.series import Series, load_series
from popcorn.build.source import find_base
from popcorn.build.workspace import Workspace, workspace
from popcorn.dirs import cache_dir
from popcorn.errors import UserError
from popcorn.files import sha256_bytes, sha256_file, write_atomic
from popcorn.process import require_program, run
from popcorn.progress import Step, step

_RECIPE = 1
_SHOWN_FINDINGS = 12
SPARSE_ONLY_NEW = "of a file that existed before, only what the series added counts"
OFF_COMPARED = (
    "every object of vmlinux, section by section, all bytes that reach memory and all relocations, and the linker "
    "script; not compared: names of local symbols, line numbers in bug tables (DEBUG_BUGVERBOSE off), the copy of the "
    "configuration (IKCONFIG off)"
)


@dataclass(frozen=True)
class Check:
    """One thing that was checked."""

    name: str
    subject: str
    """The patch, or the series."""
    passed: bool
    said: str
    """What was found; for a pass, what it covers."""
    elapsed_s: float
    remembered: bool
    """Whether the answer is an earlier run's."""


@dataclass
class Verification:
    """All checks of one series on one base."""

    series: str
    base: str
    tested: str
    checks: list[Check] = field(default_factory=list)

    @property
    def passed(self) -> bool:
        return all(check.passed for check in self.checks)

    def to_json(self) -> str:
        """For --json."""
        return json.dumps(asdict(self) | {"passed": self.passed}, indent=2)


def verify(
    series_name: str = "6.12",
    source: Path | None = None,
    *,
    quick: bool = False,
    fresh: bool = False,
    jobs: int = 0,
    told: Callable[[Check], None] = lambda check: None,
) -> Verification:
    """Check a series; `told` gets each check as it ends.

    Args:
        quick: build only the whole series instead of every prefix.
        fresh: forget what earlier runs found.
        jobs: compilers at once; 0 for one a CPU.

    A check that fails does not stop the others. Raises UserError for a series or source that cannot be read, and
    HostError for a lack of tools (sparse, perl, a compiler).
    """
    for program in ("perl", "sparse"):
        require_program(program)
    series = load_series(series_name)
    base = find_base(series, source)
    return _Verifier(series, base, fresh, jobs, told).run(quick=quick)


def record_tested(series: Series, version: str) -> bool:
    """Write into base.toml that the series holds on a base; returns whether that is news."""
    path = series.dir / "base.toml"
    text = path.read_text()
    changed = re.sub(r'^tested = ".*"$', f'tested = "{version}"', text, flags=re.MULTILINE)
    if changed != text:
        write_atomic(path, changed)
    return changed != text


def code_of(patch: Path) -> str:
    """The hash of what a patch does to what is compiled: neither its message nor documentation counts."""
    sections = re.split(r"^(?=diff --git )", patch.read_text(), flags=re.MULTILINE)[1:]
    code = [section for section in sections if not section.startswith("diff --git a/Documentation/")]
    return sha256_bytes("".join(code).encode())


class _Failed(Exception):
    """A check's answer is no; the argument says why."""


class _Verifier:
    def __init__(self, series: Series, base: Base, fresh: bool, jobs: int, told: Callable[[Check], None]) -> None:
        self.series, self.base, self.fresh, self.jobs, self.told = series, base, fresh, jobs, told
        self.result = Verification(series.name, base.version, series.tested)
        config = fragments(series, "default")
        self.requests = requests_of(config)
        self.decided_by: dict[str, Any] = {
            "recipe": _RECIPE,
            "base": base.tree,
            "config": [sha256_file(path) for path in config],
            "toolchain": toolchain(),
        }

    def run(self, *, quick: bool) -> Verification:
        """All checks, in the order in which a failure is cheapest to learn."""
        applied: Applied | None = None
        with self._check("applies", "series") as check:
            try:
                applied = apply_series(self.base, self.series)
            except UserError as error:
                raise _Failed(str(error)) from error
            check.covers(f"{len(self.series.patches)} patches on {self.base.version}")
        if applied is None:
            return self.result
        for patch in self.series.patches:
            self._checkpatch(patch, applied)
        last = len(applied.commits)
        for count in range(last if quick else 1, last + 1):
            self._prefix_builds(count, applied)
        if applied.commits:
            self._sparse(applied)
            self._off_is_off(applied)
        return self.result

    def _checkpatch(self, patch: Path, applied: Applied) -> None:
        def work(check: _Running) -> None:
            with self._at(self.base.commit) as place:
                if found := checkpatch(place.tree, patch):
                    raise _Failed(_shown(found))
            check.covers("--strict; ignored: " + "; ".join(f"{k} ({v})" for k, v in CHECKPATCH_IGNORED.items()))

        self._remembered("checkpatch", patch.name, {"patch": sha256_file(patch)}, work)

    def _prefix_builds(self, count: int, applied: Applied) -> None:
        def work(check: _Running) -> None:
            commit = applied.commits[count - 1]
            whole = count == len(applied.commits)
            with self._at(commit) as place:
                kbuild = self._kbuild(place, "default")
                requests = self.requests if whole else _known_to(place.tree, self.requests)
                self._make(kbuild, requests, check.step)
                touched = _touched(self.base.commit, commit)
                warnings = [w for w in kbuild.log.read_text().splitlines() if re.match(r"\S+:\d+:\d+: warning: ", w)]
                if own := [w for w in warnings if re.sub(r"^(\.\./)+", "", w).partition(":")[0] in touched]:
                    raise _Failed("the compiler warns:\n" + "\n".join(own[:_SHOWN_FINDINGS]))
            check.covers("vmlinux and bzImage, no warnings in files of the series")

        patches = [code_of(patch) for patch in self.series.patches[:count]]
        self._remembered("builds", self.series.patches[count - 1].name, {"patches": patches}, work)

    def _sparse(self, applied: Applied) -> None:
        def work(check: _Running) -> None:
            touched = _touched(self.base.commit, applied.head)
            with self._at(applied.head) as place:
                kbuild = self._kbuild(place, "default")
                self._make(kbuild, self.requests, check.step)
                targets = _objects_of(touched, kbuild.objects)
                after = sparse_findings(self._sparse_log(kbuild, targets), touched)
            with self._at(self.base.commit) as place:
                kbuild = self._kbuild(place, "off-base")
                self._make(kbuild, self._off_requests(), check.step, "vmlinux")
                before = sparse_findings(self._sparse_log(kbuild, _existing(targets, kbuild)), touched)
            if new := added(before, after):
                raise _Failed(_shown(new))
            check.covers(f"{len(targets)} files; {SPARSE_ONLY_NEW} ({len(before)} before)")

        self._remembered("sparse", "series", self._whole(), work)

    def _sparse_log(self, kbuild: Kbuild, targets: Sequence[str]) -> str:
        if not targets:
            return ""
        # C=2 checks a file even where its object is up to date, provided that make looks at it.
        return kbuild.make(*targets, variables=["C=2", "CHECK=sparse"]).stdout

    def _off_is_off(self, applied: Applied) -> None:
        def work(check: _Running) -> None:
            requests = self._off_requests()
            with self._at(self.base.commit) as place:
                kbuild = self._kbuild(place, "off-base")
                self._make(kbuild, requests, check.step, "vmlinux")
                base = kbuild.objects
            with self._at(applied.head) as place:
                kbuild = self._kbuild(place, "off")
                off = Request("POPCORN", "n", "verify")
                self._make(kbuild, [*requests, off], check.step, "vmlinux")
                compared = compare_builds(base, kbuild.objects)
            if compared.differing:
                raise _Failed(
                    "with CONFIG_POPCORN=n these differ from the base:\n"
                    + "\n".join(compared.differing[:_SHOWN_FINDINGS])
                )
            check.covers(
                f"{compared.identical} objects identical, {compared.but_for_names} more but for local symbol names; "
                f"compared: {OFF_COMPARED}"
            )

        self._remembered("off means off", "series", self._whole(), work)

    def _off_requests(self) -> list[Request]:
        """Without Popcorn, and without what copies line numbers and the configuration into objects."""
        return [
            *_without_popcorn(self.requests, "IKCONFIG", "IKCONFIG_PROC", "DEBUG_BUGVERBOSE"),
            Request("IKCONFIG", "n", "verify"),
            Request("DEBUG_BUGVERBOSE", "n", "verify"),
        ]

    def _whole(self) -> dict[str, Any]:
        return {"patches": [code_of(patch) for patch in self.series.patches]}

    @contextmanager
    def _at(self, commit: str) -> Iterator[Workspace]:
        with workspace(f"{self.series.name}-verify", commit) as place:
            yield place

    def _kbuild(self, place: Workspace, objects: str) -> Kbuild:
        log = cache_dir() / "logs" / f"verify-{self.series.name}-{objects}.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        log.write_text("")
        return Kbuild(place.objects(objects), log, jobs=self.jobs)

    def _make(self, kbuild: Kbuild, requests: Sequence[Request], progress: Step, *targets: str) -> None:
        try:
            configure(kbuild, requests)
            kbuild.make(*(targets or ("vmlinux", "bzImage")), step=progress)
        except (KernelBuildError, UserError) as error:
            raise _Failed(f"{error}\n{error.hint}") from error

    def _remembered(
        self, name: str, subject: str, decided_by: dict[str, Any], work: Callable[[_Running], None]
    ) -> None:
        key = sha256_bytes(json.dumps([self.decided_by, name, decided_by], sort_keys=True).encode())[:32]
        path = cache_dir() / "verify" / f"{key}.json"
        if not self.fresh and path.is_file():
            earlier = json.loads(path.read_text())
            self._ended(Check(name, subject, True, earlier["said"], earlier["elapsed_s"], True))
            return
        with self._check(name, subject) as check:
            work(check)
        done = self.result.checks[-1]
        if done.passed:
            write_atomic(path, json.dumps({"said": done.said, "elapsed_s": done.elapsed_s}) + "\n")

    @contextmanager
    def _check(self, name: str, subject: str) -> Iterator[_Running]:
        began = time.monotonic()
        passed, said = True, ""
        with step(f"{name}: {subject}") as progress:
            running = _Running(progress)
            try:
                yield running
                said = running.said
            except _Failed as failure:
                passed, said = False, str(failure)
        self._ended(Check(name, subject, passed, said, round(time.monotonic() - began, 1), False))

    def _ended(self, check: Check) -> None:
        self.result.checks.append(check)
        self.told(check)


class _Running:
    """A check under way."""

    def __init__(self, progress: Step) -> None:
        self.step = progress
        self.said = ""

    def covers(self, said: str) -> None:
        """What the pass means."""
        self.said = said


def _shown(found: Sequence[Finding]) -> str:
    lines = [str(finding) for finding in found[:_SHOWN_FINDINGS]]
    if len(found) > _SHOWN_FINDINGS:
        lines.append(f"… and {len(found) - _SHOWN_FINDINGS} more")
    return "\n".join(lines)


def _touched(base: str, head: str) -> set[str]:
    shown = output("diff", "--name-only", "--diff-filter=d", "--no-renames", base, head, cwd=linux_repository())
    return set(shown.splitlines())


def _objects_of(touched: set[str], objects: Path) -> list[str]:
    """Make targets for those touched C files that the configuration builds."""
    targets = sorted(name.removesuffix(".c") + ".o" for name in touched if name.endswith(".c"))
    return [target for target in targets if (objects / target).is_file()]


def _existing(targets: Sequence[str], kbuild: Kbuild) -> list[str]:
    return [target for target in targets if (kbuild.objects / target).is_file()]


def _without_popcorn(requests: Sequence[Request], *others: str) -> list[Request]:
    return [r for r in requests if not r.symbol.startswith("POPCORN") and r.symbol not in others]


def _known_to(tree: Path, requests: Sequence[Request]) -> list[Request]:
    """Requests without those for Popcorn's symbols that a later patch of the series brings."""
    text = run(["git", "grep", "-hE", r"^\s*(menu)?config POPCORN", "--", "*Kconfig*"], cwd=tree, check=False).stdout
    known = set(re.findall(r"config\s+(\w+)", text))
    return [r for r in requests if not r.symbol.startswith("POPCORN") or r.symbol in known]
