# SPDX-License-Identifier: Apache-2.0
"""Work in many kernels whose results are checked, while something happens to another one."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from messages import OWN_ID

from popcorn.errors import PopcornError
from popcorn.guest.run import run_in_several
from popcorn.machine.machine import Machine
from popcorn.machine.timestamps import parse_entries

_COMMAND_S = 60.0
# A host with fewer CPUs than kernels does their rounds one after the other.
_ROUNDS_S_EACH = 9.0
_SUM = "de2f256064a0af797747c2b97505dc0b9f3df0de4f489eac731c23ae9ca9cc31"
_ROUND, _WRONG = "work: round", "work: WRONG"
# Each round computes the SHA-256 of 64 KiB of zeros and sends messages to the next of those that work, and is told of
# where it is seen from outside, so that nobody has to ask. The pause leaves a host with fewer CPUs than kernels time.
_WORK = f"""
busybox head -c 65536 /dev/zero >/tmp/zeros
n=0
while :; do
  case $(exec busybox sha256sum /tmp/zeros) in
    {_SUM}*) ;;
    *) echo {_WRONG} sum >/dev/kmsg ;;
  esac
  case $(exec popcorn-msg stream $1 -n 50 -l 1000 2>&1) in
    *'"delivered": 50,'*) ;;
    *) echo {_WRONG} messages >/dev/kmsg ;;
  esac
  n=$((n + 1))
  echo {_ROUND} $n >/dev/kmsg
  sleep 0.5
done
"""


class _Told:
    """What a kernel's console tells of its work, from now on."""

    def __init__(self, console: Path) -> None:
        self._console = console
        self._at = console.stat().st_size
        self.rounds = 0

    def look(self, id: int) -> int:
        """How many rounds it has told of; none went wrong. Reads no more than what is new: this is asked often."""
        with self._console.open("rb") as stream:
            stream.seek(self._at)
            whole = stream.read().rpartition(b"\n")[0]
        self._at += len(whole) + bool(whole)
        lines = [entry.text for entry in parse_entries(whole.decode(errors="replace").split("\n"))]
        assert not [line for line in lines if _WRONG in line], f"kernel {id} worked wrongly"
        self.rounds += sum(_ROUND in line for line in lines)
        return self.rounds


class Work:
    """What some kernels do; a round is done when its sum was right and its messages arrived."""

    def __init__(self, machine: Machine, ids: Sequence[int]) -> None:
        self._machine = machine
        self.ids = tuple(ids)
        self._told: dict[int, _Told] = {}

    def begin(self) -> None:
        """Start it in each; messages go round."""
        # An earlier test may have had them work too.
        self._told = {id: _Told(self._machine.run_dir / "console" / f"{id}.jsonl") for id in self.ids}
        ring = " ".join(f"{id}:{next}" for id, next in zip(self.ids, (*self.ids[1:], self.ids[0]), strict=True))
        self._in_all(
            f"{OWN_ID}; for pair in {ring}; do [ ${{pair%:*}} = $id ] && next=${{pair#*:}}; done; "
            f"(exec sh -c '{_quoted(_WORK)}' work $next) </dev/null >/dev/null 2>&1 & echo $! >/tmp/working"
        )

    def end(self) -> None:
        """End it."""
        self._in_all("kill $(cat /tmp/working); rm /tmp/working /tmp/zeros")

    def rounds(self) -> dict[int, int]:
        """How many rounds each has told of, all without an error."""
        return {id: self._told[id].look(id) for id in self.ids}

    def goes_on(self, rounds: int = 2) -> None:
        """Wait until each has done so many more rounds; the first may have been nearly done before."""
        self._await({id: done + rounds for id, done in self.rounds().items()})

    def has_begun(self) -> None:
        """Wait until each has done a round."""
        self._await(dict.fromkeys(self.ids, 1))

    def _await(self, rounds: Mapping[int, int]) -> None:
        deadline = time.monotonic() + _ROUNDS_S_EACH * len(self.ids)
        while late := [id for id, done in self.rounds().items() if done < rounds[id]]:
            assert time.monotonic() < deadline, f"kernels {late} do not go on with their work"
            time.sleep(0.2)

    def _in_all(self, script: str) -> dict[int, str]:
        found = {}
        for id, done in run_in_several(
            self._machine.connections,
            ["sh", "-c", script],
            self.ids,
            timeout_s=_COMMAND_S + _ROUNDS_S_EACH * len(self.ids),
        ):
            assert done.status == 0, f"kernel {id}: {script!r} ended with {done.status}: {done.stderr_text}"
            found[id] = done.stdout_text
        return found


class Shifts(ExitStack):
    """Work that goes on from one test to the next, on each machine that these run on; it ends with the context."""

    def __init__(self) -> None:
        super().__init__()
        self._begun: dict[Path, Work] = {}

    def work(self, machine: Machine, ids: Sequence[int]) -> Work:
        """What these kernels of a machine do, begun if need be; of one machine it is always the same kernels."""
        # One that a test broke is replaced by another, which has a folder of its own.
        if machine.run_dir not in self._begun:
            work = Work(machine, ids)
            self.callback(_end, work)
            work.begin()
            work.has_begun()
            self._begun[machine.run_dir] = work
        return self._begun[machine.run_dir]


def _end(work: Work) -> None:
    # A test that failed already says why; the machine may be gone.
    with suppress(AssertionError, PopcornError):
        work.end()


@contextmanager
def working(machine: Machine, ids: Sequence[int]) -> Iterator[Work]:
    """Have kernels work until the block ends; at its end all went on and nothing was wrong."""
    with Shifts() as shifts:
        work = shifts.work(machine, ids)
        yield work
        work.goes_on()


def _quoted(script: str) -> str:
    return script.replace("'", "'\\''")
