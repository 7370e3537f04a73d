# SPDX-License-Identifier: Apache-2.0
"""Proof that a series holds: it applies, every prefix builds, the checkers are content, and off means off.

A check that passed is remembered under everything that decided it, so only what changed is checked again.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from popcorn.build.apply import Applied, apply_series
from popcorn.build.base import Base
from popcorn.build.checkpatch import checkpatch_of, newest_base
from popcorn.build.checks import Check, Checker, FailedError, Running, Verification
from popcorn.build.git import linux_repository, output
from popcorn.build.kbuild import Kbuild, KernelBuildError, toolchain
from popcorn.build.kconfig import Request, configure, fragments, known_to, requests_of
from popcorn.build.lint import (
    CHECKPATCH_IGNORED,
    Finding,
    added,
    checkpatch,
    compiler_warnings,
    patched_files,
    sparse_findings,
)
from popcorn.build.objcompare import compare_builds
from popcorn.build.series import Series, load_series
from popcorn.build.shared import shared_content
from popcorn.build.source import find_base
from popcorn.build.workspace import Workspace, workspace
from popcorn.dirs import cache_dir
from popcorn.errors import UserError
from popcorn.files import sha256_bytes, sha256_file, write_atomic
from popcorn.process import require_program
from popcorn.progress import Step

_RECIPE = 1
_SHOWN_FINDINGS = 12
SPARSE_ONLY_NEW = "of a file that existed before, only what the series added counts"
OFF_COMPARED = (
    "every object of vmlinux, section by section, all bytes that reach memory and all relocations, and the linker "
    "script; not compared: names of local symbols, line numbers in bug tables (DEBUG_BUGVERBOSE off), the copy of the "
    "configuration (IKCONFIG off); where WARN puts its line into the code (3.2), BUG is off too"
)


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
    return _Verifier(series, base, newest_base(series, base), fresh, jobs, told).run(quick=quick)


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


class _Verifier:
    def __init__(
        self, series: Series, base: Base, newest: Base, fresh: bool, jobs: int, told: Callable[[Check], None]
    ) -> None:
        self.series, self.base, self.newest, self.jobs = series, base, newest, jobs
        self.result = Verification(series.name, base.version, series.tested)
        config = fragments(series, "default")
        self.requests = requests_of(config)
        self.bare = series.without_popcorn()
        shared = shared_content(series)
        decided_by = {
            "recipe": _RECIPE,
            "base": base.tree,
            **({"shared": shared["tree"]} if shared else {}),
            "config": [sha256_file(path) for path in config],
            "toolchain": toolchain(),
        }
        self.checker = Checker(self.result, decided_by, fresh, told)

    def run(self, *, quick: bool) -> Verification:
        """All checks, in the order in which a failure is cheapest to learn."""
        applied: Applied | None = None
        with self.checker.check("applies", "series") as check:
            try:
                applied = apply_series(self.base, self.series)
            except UserError as error:
                raise FailedError(str(error)) from error
            check.covers(f"{len(self.series.patches)} patches on {self.base.version}")
        if applied is None:
            return self.result
        # What the series is compared with: the base, with the patches without which it does not build.
        self.before = apply_series(self.base, self.bare).head
        for patch in self.series.patches:
            self._checkpatch(patch)
        last, first = len(applied.commits), max(1, self.series.nr_base_patches)
        for count in range(last if quick else first, last + 1):
            self._prefix_builds(count, applied)
        if applied.commits:
            self._sparse(applied)
            self._off_is_off(applied)
        return self.result

    def _checkpatch(self, patch: Path) -> None:
        files = patched_files(patch.read_text())
        wrong = [one for one in self.series.checkpatch_ignored if one.path in files]

        def work(check: Running) -> None:
            with self._at(self.base.commit) as place, checkpatch_of(self.newest) as script:
                if found := checkpatch(script, place.tree, patch, wrong):
                    raise FailedError(_shown(found))
            ignored = [f"{k} ({v})" for k, v in CHECKPATCH_IGNORED.items()]
            ignored += [f"{one.finding} in {one.path} ({one.why})" for one in wrong]
            check.covers(f"--strict, of Linux {self.newest.version}; ignored: {'; '.join(ignored)}")

        decided_by: dict[str, Any] = {"patch": sha256_file(patch)}
        if wrong:
            decided_by["ignored"] = [[one.finding, one.path, one.why] for one in wrong]
        if self.newest != self.base:
            decided_by["checkpatch"] = self.newest.tree
        self.checker.remembered("checkpatch", patch.name, decided_by, work)

    def _prefix_builds(self, count: int, applied: Applied) -> None:
        def work(check: Running) -> None:
            commit = applied.commits[count - 1]
            whole = count == len(applied.commits)
            with self._at(commit) as place:
                kbuild = self._kbuild(place, "default")
                requests = self.requests if whole else known_to(place.tree, self.requests)
                self._make(kbuild, requests, check.step)
                warnings = compiler_warnings(kbuild.log.read_text(), _touched(self.base.commit, commit), place.tree)
            if warnings and (new := added(self._warnings_before(warnings, check.step), warnings)):
                raise FailedError("the compiler warns:\n" + _shown(new))
            check.covers(
                "vmlinux and bzImage, no warnings in files of the series"
                + (f" but for {len(warnings)} that the base has" if warnings else "")
            )

        patches = [code_of(patch) for patch in self.series.patches[:count]]
        self.checker.remembered("builds", self.series.patches[count - 1].name, {"patches": patches}, work)

    def _warnings_before(self, warnings: Sequence[Finding], progress: Step) -> list[Finding]:
        """What the compiler says without the series about the files that it warns about with it."""
        files = {finding.file for finding in warnings}
        with self._at(self.before) as place:
            kbuild = self._kbuild(place, "off-base")
            self._make(kbuild, self._off_requests(place), progress, "vmlinux")
            # A header's warnings show when a file that includes it is compiled, whichever that is.
            objects = _existing([name.removesuffix(".c") + ".o" for name in files if name.endswith(".c")], kbuild)
            for name in objects:
                (kbuild.objects / name).unlink()
            said = kbuild.make(*objects).stdout if objects else ""
            return compiler_warnings(said, files, place.tree)

    def _sparse(self, applied: Applied) -> None:
        def work(check: Running) -> None:
            touched = _touched(self.base.commit, applied.head)
            with self._at(applied.head) as place:
                kbuild = self._kbuild(place, "default")
                self._make(kbuild, self.requests, check.step)
                targets = _objects_of(touched, kbuild.objects)
                after = sparse_findings(self._sparse_log(kbuild, targets), touched, place.tree)
            with self._at(self.before) as place:
                kbuild = self._kbuild(place, "off-base")
                self._make(kbuild, self._off_requests(place), check.step, "vmlinux")
                log = self._sparse_log(kbuild, _existing(targets, kbuild))
                before = sparse_findings(log, touched, place.tree)
            if new := added(before, after):
                raise FailedError(_shown(new))
            check.covers(f"{len(targets)} files; {SPARSE_ONLY_NEW} ({len(before)} before)")

        self.checker.remembered("sparse", "series", self._whole(), work)

    def _sparse_log(self, kbuild: Kbuild, targets: Sequence[str]) -> str:
        if not targets:
            return ""
        # C=2 checks a file even where its object is up to date, provided that make looks at it.
        return kbuild.make(*targets, variables=["C=2", "CHECK=sparse"]).stdout

    def _off_is_off(self, applied: Applied) -> None:
        def work(check: Running) -> None:
            with self._at(self.before) as place:
                requests = self._off_requests(place)
                kbuild = self._kbuild(place, "off-base")
                self._make(kbuild, requests, check.step, "vmlinux")
                base = kbuild.objects
            with self._at(applied.head) as place:
                kbuild = self._kbuild(place, "off")
                off = Request("POPCORN", "n", "verify")
                self._make(kbuild, [*requests, off], check.step, "vmlinux")
                compared = compare_builds(base, kbuild.objects)
            if compared.differing:
                raise FailedError(
                    "with CONFIG_POPCORN=n these differ from the base:\n"
                    + "\n".join(compared.differing[:_SHOWN_FINDINGS])
                )
            check.covers(
                f"{compared.identical} objects identical, {compared.but_for_names} more but for local symbol names; "
                f"compared: {OFF_COMPARED}"
            )

        self.checker.remembered("off means off", "series", self._whole(), work)

    def _off_requests(self, place: Workspace) -> list[Request]:
        """Without Popcorn, and without what copies line numbers and the configuration into objects."""
        off = ["IKCONFIG", "DEBUG_BUGVERBOSE"]
        if "warn_slowpath_null" in (place.tree / "include/asm-generic/bug.h").read_text():
            # An older kernel, whose WARN puts the line into the code and not into a table.
            off.append("BUG")
        requests = _without_popcorn(self.requests, "IKCONFIG_PROC", *off)
        return [*requests, *(Request(symbol, "n", "verify") for symbol in off)]

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
            raise FailedError(f"{error}\n{error.hint}") from error


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
