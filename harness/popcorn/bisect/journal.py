# SPDX-License-Identifier: Apache-2.0
"""A search on disk: what it is about, and each run as soon as it has ended.

The journal is a line of JSON a run, written in one go and synced; a line cut short by a crash is left out, and its run
is run again.
"""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from filelock import FileLock, Timeout
from pydantic import TypeAdapter, ValidationError

from popcorn.bisect.evidence import Run
from popcorn.bisect.task import Task
from popcorn.dirs import runs_dir
from popcorn.errors import UserError
from popcorn.files import write_atomic

FORMAT = 1
_TASK, _JOURNAL, _END = "task.json", "journal.jsonl", "end.json"
_task = TypeAdapter(Task)
_run = TypeAdapter(Run)


@dataclass(frozen=True)
class Journal:
    """The folder of one search."""

    folder: Path

    @property
    def name(self) -> str:
        return self.folder.name

    def task(self) -> Task:
        """What it is about. Raises UserError if that cannot be read."""
        try:
            document = json.loads((self.folder / _TASK).read_text(encoding="utf-8"))
            if document["format"] != FORMAT:
                raise ValueError(f"format {document['format']}, expected {FORMAT}")
            return _task.validate_python(document["task"])
        except (OSError, ValueError, KeyError, TypeError, ValidationError) as error:
            raise UserError(f"{self.folder / _TASK} describes no search: {error}", hint="begin it anew") from error

    def runs(self) -> list[Run]:
        """All runs so far, in order."""
        return [_run.validate_python(json.loads(line)) for line in self._lines()]

    def add(self, run: Run) -> None:
        """Keep a run."""
        line = json.dumps(asdict(run) | {"at": time.time()}, ensure_ascii=False) + "\n"
        with (self.folder / _JOURNAL).open("ab") as out:
            # What a crash left of a line must not spoil this one.
            whole = sum(len(one) + 1 for one in self._lines())
            if out.tell() != whole:
                os.ftruncate(out.fileno(), whole)
            out.write(line.encode())
            out.flush()
            os.fsync(out.fileno())

    def end(self, told: dict[str, object] | None) -> None:
        """Keep how the search ended; None: it goes on."""
        if told is None:
            (self.folder / _END).unlink(missing_ok=True)
        else:
            write_atomic(self.folder / _END, json.dumps(told, indent=1, ensure_ascii=False) + "\n")

    def ended(self) -> dict[str, object] | None:
        """How it ended; None if it did not."""
        try:
            found = json.loads((self.folder / _END).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        return found if isinstance(found, dict) else None

    def _lines(self) -> list[bytes]:
        try:
            content = (self.folder / _JOURNAL).read_bytes()
        except FileNotFoundError:
            return []
        return content.split(b"\n")[:-1]

    @contextmanager
    def held(self) -> Iterator[None]:
        """Hold the search. Raises UserError while another command does."""
        lock = FileLock(self.folder / "lock")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            raise UserError(
                f"the search {self.name!r} is going on", hint=f"`popcorn bisect status {self.name}` tells how far it is"
            ) from None
        try:
            yield
        finally:
            lock.release()


def searches_dir() -> Path:
    """Where all searches are."""
    return runs_dir() / "bisect"


def create(name: str) -> Journal:
    """A folder for a new search. Raises UserError when the name is taken or none."""
    if not re.fullmatch(r"[A-Za-z0-9][\w.-]*", name):
        raise UserError(f"{name!r} is no name for a search", hint="write letters, digits, - and _")
    folder = searches_dir() / name
    if (folder / _TASK).exists():
        raise UserError(
            f"there is a search {name!r} already",
            hint=f"go on with it (--resume {name}), name another one, or remove {folder}",
        )
    folder.mkdir(parents=True, exist_ok=True)
    return Journal(folder)


def begin(journal: Journal, task: Task) -> None:
    """Write down what a search is about: from here on it can be resumed."""
    document = {"format": FORMAT, "begun": time.time(), "task": _task.dump_python(task, mode="json")}
    write_atomic(journal.folder / _TASK, json.dumps(document, indent=1, ensure_ascii=False) + "\n")


def find(name: str) -> Journal:
    """A search by its name; the latest one for the empty name. Raises UserError when there is none."""
    known = sorted(searches_dir().glob(f"*/{_TASK}"), key=lambda path: path.stat().st_mtime)
    if not name and known:
        return Journal(known[-1].parent)
    if name and (searches_dir() / name / _TASK).is_file():
        return Journal(searches_dir() / name)
    names = ", ".join(path.parent.name for path in known) or "none"
    raise UserError(f"there is no search {name!r}" if name else "there is no search", hint=f"searches: {names}")
