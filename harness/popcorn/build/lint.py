# SPDX-License-Identifier: Apache-2.0
"""checkpatch, sparse and the compiler's warnings: running the checkers, and reading what they say."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from popcorn.build.basefile import IgnoredFinding
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


def checkpatch(script: Path, tree: Path, patch: Path, ignored: Sequence[IgnoredFinding] = ()) -> list[Finding]:
    """What `checkpatch.pl --strict` says about a patch for a tree, but for CHECKPATCH_IGNORED.

    Args:
        script: the checkpatch.pl, which may be another tree's.
        ignored: what does not count either.
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
        return [Finding(patch.name, 0, (done.stdout + done.stderr).strip() or f"status {done.returncode}")]
    return not_ignored(found, patch.read_text(), ignored)


def not_ignored(found: Iterable[Finding], patch: str, ignored: Iterable[IgnoredFinding]) -> list[Finding]:
    """What checkpatch found in the text of a patch, without what is ignored in the file that it is about."""
    wrong = {(one.finding, one.path) for one in ignored}
    return [one for one in found if (one.said.split(":")[1], _file_at(patch, one.line)) not in wrong]


def patched_files(patch: str) -> list[str]:
    """The files that exist after the patch with this text and that it changes."""
    return re.findall(r"^\+\+\+ b/(.+)$", patch, flags=re.MULTILINE)


def _file_at(patch: str, line: int) -> str | None:
    """The file that a line of a patch belongs to, lines counting from 1; None in the patch's message."""
    before = patched_files("\n".join(patch.splitlines()[:line]))
    return before[-1] if before else None


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
