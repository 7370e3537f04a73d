# SPDX-License-Identifier: Apache-2.0
"""Which candidate to try next: git's own bisection, in a bare repository that holds nothing but the search.

Merges, skipped regions and histories where the good end is no ancestor of the bad one are git's business.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from popcorn.build.git import git, output
from popcorn.errors import UserError

Mark = tuple[str, Literal["good", "bad", "skip"]]
"""A commit and what became of it."""


@dataclass(frozen=True)
class Next:
    """The commit that git asks for."""

    commit: str
    steps: int
    """About so many are left, this one included."""


@dataclass(frozen=True)
class Answer:
    """The first bad commit; several when those between could not be tested."""

    commits: tuple[str, ...]


class History:
    """The commits between a good and a bad one."""

    def __init__(self, repository: Path, good: str, bad: str) -> None:
        """Take a bare repository into use; what an earlier search left in it is forgotten.

        Raises:
            UserError: the two commits are one, or have nothing between them.
        """
        self.repository, self.good, self.bad = repository, good, bad
        self._marked: list[Mark] | None = None
        self._asked: Next | Answer | None = None
        listed = output(
            "rev-list", "--reverse", "--topo-order", "--parents", bad, f"^{good}", cwd=repository
        ).splitlines()
        self._parents = {line.split()[0]: tuple(line.split()[1:]) for line in listed}
        if not self._parents:
            raise UserError(
                f"nothing lies between the good end {good[:12]} and the bad end {bad[:12]}",
                hint="the bad end holds the change, the good one does not; are the two swapped?",
            )

    def between(self) -> list[str]:
        """The candidates: what the bad end has and the good one has not, the oldest first."""
        return list(self._parents)

    def parents(self, commit: str) -> tuple[str, ...]:
        """The parents of a candidate."""
        return self._parents.get(commit, ())

    def subject(self, commit: str) -> str:
        """The first line of its message."""
        return output("show", "--no-patch", "--format=%s", commit, cwd=self.repository)

    def ask(self, marks: Sequence[Mark]) -> Next | Answer:
        """What to try next, or the answer.

        Args:
            marks: all that is known beyond the two ends, in the order in which it was learned.

        Raises:
            UserError: the commits contradict each other, e.g. the failure was there before and had gone.
        """
        wanted = list(marks)
        if self._asked is not None and wanted == self._marked:
            return self._asked
        # Should git refuse one, it has to learn all anew.
        known, self._marked = self._marked, None
        if known is not None and wanted[: len(known)] == known:
            for commit, what in self._news(wanted[len(known) :]):
                self._bisect(what, commit)
        else:
            self._begin(wanted)
        self._marked = wanted
        self._asked = self._state()
        return self._asked

    def _begin(self, marks: Sequence[Mark]) -> None:
        """Have git forget what it knows and learn these marks, in one go."""
        self._open = set(self._parents)
        with tempfile.NamedTemporaryFile("w", dir=self.repository, prefix="bisect-") as log:
            # Told of both ends at the start, git looks for what to try already then; merge bases end the replay.
            log.write(f"git bisect start '--no-checkout' '{self.bad}'\ngit bisect good {self.good}\n")
            log.writelines(f"git bisect {what} {commit}\n" for commit, what in self._news(marks))
            log.flush()
            # git wants a HEAD, and in a bare repository it checks nothing out.
            git("update-ref", "--no-deref", "HEAD", self.bad, cwd=self.repository)
            self._bisect("replay", log.name)

    def _news(self, marks: Sequence[Mark]) -> Iterator[Mark]:
        """Those that tell git something; a verdict on what an earlier one has made irrelevant does not."""
        for commit, what in marks:
            # Outside of the candidates git asks for merge bases, where the good end is no ancestor of the bad one.
            if commit in self._open or commit not in self._parents:
                yield commit, what
                self._close(commit, what)

    def _bisect(self, *words: str) -> None:
        done = git("bisect", *words, cwd=self.repository, check=False)
        # 2: only skipped commits are left.
        if done.returncode not in (0, 2):
            said = " ".join((done.stdout + done.stderr).split())
            raise UserError(
                f"git bisect {words[0]} refused: {said}",
                hint="the good end has to be an ancestor of the bad one, or of the same history before the failure",
            )
        steps = re.search(r"\(roughly (\d+) step", done.stdout)
        # git does not count the one it asks for.
        self._steps = 1 + (int(steps[1]) if steps else 0)

    def _close(self, commit: str, what: str) -> None:
        """Take out what a verdict leaves no question about."""
        older, todo = set(), [commit]
        while todo:
            one = todo.pop()
            if one not in older:
                older.add(one)
                todo += self.parents(one)
        if what == "good":
            self._open -= older
        elif what == "bad":
            self._open &= older

    def _state(self) -> Next | Answer:
        # git's log is what `git bisect replay` reads; what it prints is for people.
        log = (self.repository / "BISECT_LOG").read_text()
        if found := re.findall(r"^# first bad commit: \[([0-9a-f]+)\]", log, re.MULTILINE):
            return Answer((found[-1],))
        if "# only skipped commits left to test" in log:
            possible = re.findall(r"^# possible first bad commit: \[([0-9a-f]+)\]", log, re.MULTILINE)
            return Answer(tuple(dict.fromkeys(possible)))
        return Next(output("rev-parse", "--verify", "BISECT_HEAD", cwd=self.repository), self._steps)
