# SPDX-License-Identifier: Apache-2.0
"""checkpatch, sparse and the compiler's warnings: running the checkers, and reading what they say."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from popcorn.build.kbuild import environment
from popcorn.process import run

CHECKPATCH_IGNORED = {
    "MISSING_SIGN_OFF": "Signed-off-by is absent until a person adds it",
    "FILE_PATH_CHANGES": "MAINTAINERS is the upstream tree's business",
}


@dataclass(frozen=True)
class Finding:
    """One thing that a checker dislikes."""

    file: str
    line: int
    said: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.said}" if self.line else f"{self.file}: {self.said}"


def checkpatch(script: Path, tree: Path, patch: Path) -> list[Finding]:
    """What `checkpatch.pl --strict` says about a patch for a tree, but for CHECKPATCH_IGNORED.

    Args:
        script: the checkpatch.pl, which may be another tree's.
    """
    done = run(
        ["perl", script, f"--root={tree}", "--strict", "--terse", "--show-types",
         "--no-summary", "--color=never", f"--ignore={','.join(CHECKPATCH_IGNORED)}", patch],
        cwd=tree,
        env=environment(),
        check=False,
    )  # fmt: skip
    found = checkpatch_findings(done.stdout)
    if done.returncode != 0 and not found:
        found = [Finding(patch.name, 0, (done.stdout + done.stderr).strip() or f"status {done.returncode}")]
    return found


def checkpatch_findings(output: str) -> list[Finding]:
    """The findings in what `checkpatch.pl --terse` prints."""
    found = []
    for line in output.splitlines():
        if hit := re.match(r"(?:.*/)?([^/:]+):(\d+): ((?:ERROR|WARNING|CHECK):.*)$", line):
            found.append(Finding(hit.group(1), int(hit.group(2)), hit.group(3)))
    return found


def sparse_findings(log: str, files: Iterable[str], tree: Path | None = None) -> list[Finding]:
    """The complaints of sparse about some files (paths from the tree's root) in a make log.

    Args:
        tree: where the sources are, for kernels that name them by absolute paths.
    """
    return _findings(log, r"(?:warning|error): .*", files, tree)


def compiler_warnings(log: str, files: Iterable[str], tree: Path | None = None) -> list[Finding]:
    """The compiler's warnings about some files; arguments as for `sparse_findings`."""
    return _findings(log, r"warning: .*", files, tree)


def _findings(log: str, said: str, files: Iterable[str], tree: Path | None) -> list[Finding]:
    wanted = set(files)
    top = f"{tree}/" if tree is not None else ""
    found = []
    for line in log.splitlines():
        if hit := re.match(rf"(\S+?):(\d+):\d+: ({said})$", line):
            file = re.sub(r"^(?:\./|\.\./)+", "", hit.group(1).removeprefix(top))
            if file in wanted:
                found.append(Finding(file, int(hit.group(2)), hit.group(3)))
    return found


def added(before: Iterable[Finding], after: Iterable[Finding]) -> list[Finding]:
    """The findings of `after` that `before` has not, wherever in the file they moved."""
    known = Counter((finding.file, finding.said) for finding in before)
    new = []
    for finding in after:
        key = (finding.file, finding.said)
        if known[key]:
            known[key] -= 1
        else:
            new.append(finding)
    return new
