# SPDX-License-Identifier: Apache-2.0
"""One command in many kernels at a time, over one ssh channel.

A script on the primary is given the kernels' ids one by one, runs the commands side by side and writes each
answer, when it is complete, as one frame: ``ID STATUS STDOUT_BYTES STDERR_BYTES\\n`` and then the two streams.
"""

from __future__ import annotations

import queue
import re
import shlex
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence

from popcorn.errors import GuestError, PopcornError
from popcorn.guest.finished import Finished

RunScript = Callable[[Sequence[str], Iterable[bytes], Callable[[str, bytes], None]], Finished]
"""Runs a command in the primary with this input and passes its output on; like `Primary.run`."""

# Exit statuses of popcorn-vty, and of any kernel among several.
UNREACHED = 125
TIMED_OUT = 124
_HEAD_LIMIT_BYTES = 200
AT_ONCE = 64
"""So many commands run side by side at most: a process of the primary each."""
_YOUNG_S = 2.0
_LOOK_S = 0.1
_HEAD = re.compile(rb"([0-9]{1,9}) ([0-9]{1,9}) ([0-9]{1,15}) ([0-9]{1,15})")

# Only the loop at the end writes answers, so that none gets into another: the others tell it by
# one short line, which a pipe does not tear. The command comes as words quoted for eval; in the
# primary it runs in a shell of its own, as it would over ssh. Who has all answers hangs up, and
# then all processes here are told to end: the one that tidies up must not.
_SCRIPT = r"""
dir=$(mktemp -d /tmp/exec.XXXXXX) || exit 1
trap 'rm -rf "$dir"' EXIT
trap 'trap "" HUP INT PIPE TERM; exit 143' HUP INT PIPE TERM
while read -r id; do
    {
        if [ "$id" = "$primary" ]; then sh -c "$command"; else eval "$launcher $id -- $command"; fi \
            >"$dir/$id.out" 2>"$dir/$id.err" </dev/null
        echo "$id $?"
    } &
done | while read -r id status; do
    out=$(wc -c <"$dir/$id.out") err=$(wc -c <"$dir/$id.err")
    printf '%d %d %d %d\n' "$id" "$status" "$out" "$err"
    cat "$dir/$id.out" "$dir/$id.err"
    rm -f "$dir/$id.out" "$dir/$id.err"
done
trap "" HUP INT PIPE TERM
"""


def script(argv: Sequence[str], *, primary: int, launcher: Sequence[str]) -> list[str]:
    """The command for the primary; its input is the kernels' ids, a line each.

    Args:
        primary: the id of the kernel in which the command runs directly.
        launcher: what runs it in another: these words, the id, ``--``, the command.
    """
    settings = {
        "primary": str(primary),
        "launcher": shlex.join(launcher),
        "command": shlex.join(argv),
    }
    return ["env", *(f"{name}={value}" for name, value in settings.items()), "sh", "-c", _SCRIPT]


class Pace:
    """When which of many kernels is told to begin."""

    def __init__(
        self,
        *,
        young: int = AT_ONCE,
        young_s: float = _YOUNG_S,
        spare: Callable[[], bool] = lambda: True,
        at_once: int = AT_ONCE,
    ) -> None:
        """
        Args:
            young: how many may have begun without an answer yet,
            young_s: but for those that began so long ago: what takes long is let run,
            spare: and but for when the host has a CPU to spare.
            at_once: how many may run at all.
        """
        self._spare, self._young, self._young_s, self._at_once = spare, young, young_s, at_once
        self._begun: dict[int, float] = {}
        self._ended = False
        self._changed = threading.Condition()

    def answered(self, id: int) -> None:
        """A kernel has answered."""
        with self._changed:
            self._begun.pop(id, None)
            self._changed.notify()

    def end(self) -> None:
        """No more kernels are asked."""
        with self._changed:
            self._ended = True
            self._changed.notify()

    def turns(self, ids: Iterable[int]) -> Iterator[bytes]:
        """The input of the script: each id when it may begin."""
        for id in ids:
            with self._changed:
                while not self._ended and not self._may_begin():
                    told = self._changed.wait(_LOOK_S)
                    if not told and len(self._begun) < self._at_once and self._spare():
                        break
                if self._ended:
                    return
                self._begun[id] = time.monotonic()
            yield f"{id}\n".encode()

    def _may_begin(self) -> bool:
        now_s = time.monotonic()
        young = sum(now_s - begun_s < self._young_s for begun_s in self._begun.values())
        return young < self._young and len(self._begun) < self._at_once


class FrameParser:
    """Cuts the script's output into answers."""

    def __init__(self, argv: Sequence[str]) -> None:
        self._argv = tuple(argv)
        self._rest = b""

    def feed(self, data: bytes) -> Iterator[tuple[int, Finished]]:
        """Take some bytes; give the answers that are complete now.

        Raises:
            ValueError: this is not what the script writes.
        """
        self._rest += data
        while True:
            head, newline, body = self._rest.partition(b"\n")
            if not newline:
                if len(head) > _HEAD_LIMIT_BYTES:
                    raise ValueError(f"expected the head of an answer, found {head[:40]!r}")
                return
            numbers = _HEAD.fullmatch(head)
            if numbers is None:
                raise ValueError(f"expected the head of an answer, found {head[:40]!r}")
            id, status, out, err = map(int, numbers.groups())
            if len(body) < out + err:
                return
            self._rest = body[out + err :]
            yield id, Finished(self._argv, status, body[:out], body[out : out + err])


def answers(
    run: RunScript, command: Sequence[str], ids: Sequence[int], argv: Sequence[str], pace: Pace
) -> Iterator[tuple[int, Finished]]:
    """Run the script and give the answers in the order of ``ids``, each as soon as that allows.

    A kernel of which nothing was heard gets status 125.

    Raises:
        GuestError: the primary writes something else.
        PopcornError: what ``run`` raises.
    """
    inbox: queue.SimpleQueue[tuple[int, Finished] | Exception | None] = queue.SimpleQueue()
    parser = FrameParser(argv)
    complaints: list[bytes] = []

    def hear(stream: str, data: bytes) -> None:
        if stream == "stderr":
            complaints.append(data)
            return
        for answer in parser.feed(data):
            pace.answered(answer[0])
            inbox.put(answer)

    def work() -> None:
        try:
            run(command, pace.turns(ids), hear)
            inbox.put(None)
        except PopcornError as error:
            inbox.put(error)
        except ValueError as error:
            inbox.put(GuestError(f"the primary's answer cannot be understood: {error}"))
        finally:
            pace.end()

    threading.Thread(target=work, daemon=True, name="exec").start()
    heard: dict[int, Finished] = {}
    ended = False
    for id in ids:
        while id not in heard and not ended:
            message = inbox.get()
            if isinstance(message, Exception):
                raise message
            if message is None:
                ended = True
            else:
                heard[message[0]] = message[1]
        if id not in heard:
            said = b"".join(complaints).strip() or b"the primary gave no answer for this kernel"
            heard[id] = Finished(tuple(argv), UNREACHED, b"", b"popcorn: " + said + b"\n")
        yield id, heard[id]
