# SPDX-License-Identifier: Apache-2.0
"""The process that owns a machine: its memory, its QEMU, its recorder and its record.

One detached process a machine, started by `boot.up`. It lives by these rules:

- QEMU is its child and dies with it, however it dies (PR_SET_PDEATHSIG).
- The socket to the command that started it is the machine's lifeline: when it closes before
  that command said ``keep``, QEMU is ended. A tied machine is never kept.
- When QEMU ends, what the kernels said last and the whole shared region are saved in the run's
  folder, and the record tells why; after ``down`` the record goes.

The control socket takes one JSON object a line and answers with one, which names an ``error`` if
there was one:

    {"do": "status"}            what was seen of the kernels
    {"do": "keep"}, {"do": "down"}
    {"do": "replan"}            the plan that was left in the run's folder is the machine's from now on
    {"do": "pause"}             all CPUs stand still until ``resume`` or the end of the connection;
                                what was recorded of them so far is complete
    {"do": "resume"}            tells when they went on
    {"do": "follow", "times": …, "now": …}
                                of a machine that goes on from a snapshot, once its memory is there:
                                record it from now on; what its last recorder had seen, and when that was
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from popcorn.clock import RunClock
from popcorn.errors import HostError, PopcornError
from popcorn.machine import starved
from popcorn.machine.lastwords import REGION_DUMP, save_memory, save_range
from popcorn.machine.memory import GuestMemory, NodeMemory, create_node_memory
from popcorn.machine.registry import NEXT_PLAN_FILE, PLAN_FILE, Record, discard, write_record
from popcorn.process import dying_with_parent, first_error_line

if TYPE_CHECKING:
    import asyncio

    from popcorn.machine.pausing import Pausing
    from popcorn.machine.progress import Progress
    from popcorn.machine.recorder import Recorder

CONTROL_SOCKET = "control.sock"
QEMU_LOG = "qemu.log"

# QEMU gets the memory of node N as descriptor FIRST_NODE_FD + N, so that its whole
# command line is known before anything is opened.
FIRST_NODE_FD = 200

_POLL_BUSY_S = 0.04
_POLL_IDLE_S = 0.25
_GRACE_S = 2.0
_LAST_EVENTS_S = 0.1


@dataclass(frozen=True)
class Launch:
    """What the supervisor is told: QEMU's command line and what to write into the record."""

    argv: tuple[str, ...]
    node_bytes: tuple[int, ...]
    record: Record

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @staticmethod
    def from_json(text: str) -> Launch:
        fields = json.loads(text)
        record = fields["record"]
        record["kernels"] = tuple(record["kernels"])
        record["nodes"] = tuple(record["nodes"])
        record["qemu_options"] = tuple(record["qemu_options"])
        return Launch(tuple(fields["argv"]), tuple(fields["node_bytes"]), Record(**record))


def node_memory_path(node: int) -> str:
    """The name under which QEMU opens the memory of a node."""
    return f"/proc/self/fd/{FIRST_NODE_FD + node}"


def main(arguments: list[str]) -> int:
    """Run one machine. Arguments: the launch file, the descriptor of the lock, that of the lifeline."""
    launch = Launch.from_json(Path(arguments[0]).read_text(encoding="utf-8"))
    lifeline = int(arguments[2])
    # What kernels print and hold, and the sockets to QEMU, are for this user alone.
    os.umask(0o077)
    try:
        nodes = _open_memory(launch.node_bytes)
        qemu = _start_qemu(launch, nodes)
    except (PopcornError, OSError) as error:
        hint = error.hint if isinstance(error, PopcornError) else ""
        _tell(lifeline, {"event": "failed", "reason": str(error), "hint": hint})
        discard(launch.record.name)
        return 3
    # Only now what takes time to import: QEMU is already on its way.
    import asyncio

    asyncio.run(_Supervisor(launch, nodes, qemu, lifeline).run())
    return 0


def _open_memory(node_bytes: tuple[int, ...]) -> list[NodeMemory]:
    nodes = []
    for number, size in enumerate(node_bytes):
        fresh = create_node_memory(number, size)
        os.dup2(fresh.fd, FIRST_NODE_FD + number, inheritable=False)
        os.close(fresh.fd)
        nodes.append(NodeMemory(FIRST_NODE_FD + number, size))
    return nodes


def _start_qemu(launch: Launch, nodes: list[NodeMemory]) -> subprocess.Popen[bytes]:
    with (Path(launch.record.run_dir) / QEMU_LOG).open("ab") as log:
        try:
            return subprocess.Popen(
                dying_with_parent(launch.argv, death_signal="KILL"),
                cwd=launch.record.directory,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=[node.fd for node in nodes],
            )
        except OSError as error:
            raise HostError(f"cannot run {launch.argv[0]}: {error.strerror}") from error


def _tell(lifeline: int, message: dict[str, Any]) -> None:
    try:
        os.write(lifeline, (json.dumps(message) + "\n").encode())
    except OSError:
        return


def _complain(text: str) -> None:
    # The log is on the disk that may be full.
    with contextlib.suppress(OSError):
        print(text, file=sys.stderr, flush=True)


class _Supervisor:
    def __init__(self, launch: Launch, nodes: list[NodeMemory], qemu: subprocess.Popen[bytes], lifeline: int) -> None:
        self.launch = launch
        self.nodes = nodes
        self.qemu = qemu
        self.lifeline = lifeline
        self.kept = False
        self.wanted_down = ""
        self.shutdown_cause = ""
        self.trouble = ""
        self.oom_kills_before = starved.oom_kills()
        self.clock = RunClock.set()
        self.record = replace(
            launch.record,
            status="starting",
            supervisor_pid=os.getpid(),
            qemu_pid=qemu.pid,
            started=self.clock.set_to_s,
            started_uptime=self.clock.uptime_s,
            nodes=tuple((node.fd, node.size) for node in nodes),
        )
        self.run_dir = Path(self.record.run_dir)
        self.recorder: Recorder | None = None
        self.progress: Progress | None = None
        self.pausing: Pausing | None = None

    async def run(self) -> None:
        import asyncio
        import signal

        write_record(self.record)
        loop = asyncio.get_running_loop()
        ended = asyncio.Event()
        pidfd = os.pidfd_open(self.qemu.pid)
        loop.add_reader(pidfd, ended.set)
        os.set_blocking(self.lifeline, False)
        loop.add_reader(self.lifeline, self._hear_lifeline, loop)
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._end_qemu, f"the supervisor got {signal.Signals(number).name}")
        server = await asyncio.start_unix_server(self._serve, self.record.directory / CONTROL_SOCKET)
        if not self.record.saved:
            self._open_recorder()
        tasks = [asyncio.create_task(self._record()), asyncio.create_task(self._watch_qmp())]
        await ended.wait()
        loop.remove_reader(pidfd)
        status = self.qemu.wait()
        # The monitor's last events may still be in its socket.
        await asyncio.wait(tasks[1:], timeout=_LAST_EVENTS_S)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        server.close()
        self._finish(status)

    def _hear_lifeline(self, loop: asyncio.AbstractEventLoop) -> None:
        try:
            heard = os.read(self.lifeline, 4096)
        except BlockingIOError:
            return
        except OSError:
            heard = b""
        if b"keep\n" in heard:
            self.kept = True
        if not heard:
            loop.remove_reader(self.lifeline)
            if not self.kept:
                self._end_qemu("the command that started it ended")

    def _end_qemu(self, why: str) -> None:
        import asyncio

        self.wanted_down = self.wanted_down or why
        if self.qemu.poll() is None:
            self.qemu.terminate()
            asyncio.get_running_loop().call_later(_GRACE_S, self._kill_qemu)

    def _kill_qemu(self) -> None:
        if self.qemu.poll() is None:
            self.qemu.kill()

    async def _watch_qmp(self) -> None:
        """Ask QEMU for the port to the guest's sshd, then wait for the reason of its end."""
        import asyncio

        from qemu.qmp import QMPClient, QMPError

        from popcorn.machine.pausing import Pausing
        from popcorn.machine.qemu import GUEST_SSH_PORT, MONITOR_SOCKET
        from popcorn.machine.qmp import forwarded_port

        client = QMPClient("supervisor")
        while True:
            try:
                await client.connect(str(self.record.directory / MONITOR_SOCKET))
                break
            except (QMPError, OSError):
                await asyncio.sleep(0.02)
        try:
            with client.listener("SHUTDOWN") as shutdowns:
                answer = await client.execute("human-monitor-command", {"command-line": "info usernet"})
                port = forwarded_port(str(answer), GUEST_SSH_PORT)
                self.pausing = Pausing(client)
                self.record = replace(self.record, status="up", ssh_port=port or 0)
                write_record(self.record)
                _tell(self.lifeline, {"event": "up"})
                async for event in shutdowns:
                    data = event["data"]
                    self.shutdown_cause = str(data.get("reason", "")) if isinstance(data, dict) else ""
        except (QMPError, OSError) as error:
            if self.qemu.poll() is None:
                self.trouble = f"the connection to QEMU's monitor broke: {error}"
        finally:
            with contextlib.suppress(QMPError, OSError, EOFError):
                await client.disconnect()

    async def _record(self) -> None:
        import asyncio

        pause = _POLL_BUSY_S
        while True:
            pause = _POLL_BUSY_S if self._poll() else min(pause * 1.5, _POLL_IDLE_S)
            await asyncio.sleep(pause)

    def _poll(self) -> bool:
        if self.recorder is None:
            return False
        try:
            moved = self.recorder.poll()
            self._judge_progress()
            return moved
        except OSError as error:
            # A full disk must not end the machine.
            self.recorder = None
            self.trouble = f"recording in {self.run_dir} stopped: {error.strerror}"
            _complain(self.trouble)
            return False

    def _flush(self) -> None:
        if self._poll() and self.recorder is not None:
            # A console that wrote much is read in pieces.
            while self._poll():
                pass
        if self.recorder is not None:
            self.recorder.flush()

    def _follow(self, times: dict[str, dict[str, float]], seen_at: float) -> None:
        self._open_recorder()
        if self.recorder is not None:
            self.recorder.go_on(times, seen_at)
            self.recorder.event("restored", snapshot=self.record.restored_from, saved=self.record.saved)

    async def _let_go(self, asker: object) -> None:
        try:
            if self.pausing is not None:
                await self.pausing.end(asker)
        except PopcornError as error:
            self.trouble = str(error)
            _complain(self.trouble)

    def _judge_progress(self) -> None:
        from popcorn.machine.progress import told

        if self.recorder is None or self.progress is None or self.qemu.poll() is not None:
            return
        for id, health, still in self.progress.look(self.recorder.slots.values(), time.monotonic()):
            self.recorder.event("health", kernel=id, **told(health, still))

    def _open_recorder(self) -> None:
        from popcorn.machine.layout import Region, load_layout
        from popcorn.machine.progress import CpuTimes, Progress
        from popcorn.machine.recorder import Recorder

        self.progress = Progress(CpuTimes(self.qemu.pid))
        try:
            region = None
            if self.record.region_size:
                mapping = GuestMemory(self.nodes, self.record.hole_start).map(
                    self.record.region_start, self.record.region_size
                )
                region = Region(load_layout(Path(self.record.header)), mapping, self.record.region_start)
            self.recorder = Recorder(region, self.run_dir, clock=self.clock.now, begin=self.record.started)
        except (PopcornError, OSError) as error:
            self.trouble = f"nothing is recorded: {error}"
            _complain(self.trouble)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while line := await reader.readline():
                try:
                    answer = await self._answer(line, writer)
                except PopcornError as error:
                    answer = {"error": str(error)}
                writer.write((json.dumps(answer) + "\n").encode())
                await writer.drain()
        except (ConnectionError, ValueError):
            pass
        finally:
            await self._let_go(writer)
            writer.close()

    async def _answer(self, line: bytes, asker: object) -> dict[str, Any]:
        try:
            request = json.loads(line)
            wish = request["do"]
        except (ValueError, KeyError, TypeError):
            return {"error": 'expected {"do": "status"|"keep"|"replan"|"down"|"pause"|"resume"|"follow"}'}
        if wish == "down":
            self._end_qemu("down")
        elif wish == "keep":
            self.kept = True
        elif wish == "replan":
            try:
                self._replan()
            except (OSError, ValueError, KeyError, TypeError) as error:
                return {"error": f"the new plan cannot be taken: {error}"}
        elif wish == "pause":
            if self.pausing is None:
                return {"error": "QEMU does not answer"}
            await self.pausing.begin(asker)
            self._flush()
        elif wish == "resume":
            return {"resumed": await self.pausing.end(asker) if self.pausing is not None else None}
        elif wish == "follow":
            self._follow(request["times"], float(request["now"]))
        elif wish != "status":
            return {"error": f"unknown wish {wish!r}"}
        self._poll()
        return {
            "now": self.clock.now(),
            "kept": self.kept,
            "trouble": self.trouble,
            "times": self.recorder.times() if self.recorder is not None else {},
            "health": self.progress.health() if self.progress is not None else {},
        }

    def _replan(self) -> None:
        """Make the plan that somebody left the machine's, and tell its kernels in the record: whoever reads either
        sees both changed, or neither."""
        new = self.run_dir / NEXT_PLAN_FILE
        plan = json.loads(new.read_text(encoding="utf-8"))
        kernels = tuple(int(partition["id"]) for partition in plan["partitions"])
        record = replace(self.record, kernels=kernels, policy=str(plan["policy"]), replanned=self.record.replanned + 1)
        new.replace(self.run_dir / PLAN_FILE)
        self.record = record
        write_record(record)

    def _finish(self, status: int) -> None:
        reason = self.wanted_down or self._reason(status)
        try:
            if self.recorder is not None:
                self.recorder.poll()
                self.recorder.event("ended", reason=reason, qemu_status=status)
                self.recorder.close()
            if self.record.region_size:
                memory = GuestMemory(self.nodes, self.record.hole_start)
                save_range(memory, self.record.region_start, self.record.region_size, self.run_dir / REGION_DUMP)
        except (PopcornError, OSError) as error:
            _complain(f"the last words could not be saved: {error}")
        if self.record.keep_memory and not self.wanted_down:
            try:
                save_memory(self.nodes, self.run_dir)
            except OSError as error:
                _complain(f"the memory could not be kept in {self.run_dir}: {error.strerror}")
        _tell(self.lifeline, {"event": "failed", "reason": reason, "hint": starved.remedy(reason)})
        if self.wanted_down:
            discard(self.record.name)
        else:
            self.record = replace(self.record, status="dead", ended=self.clock.now(), reason=reason)
            write_record(self.record)

    def _reason(self, status: int) -> str:
        import signal

        if status < 0:
            why = starved.why_killed(-status, self.oom_kills_before)
            return f"QEMU was killed by {signal.Signals(-status).name}{why}"
        if status > 0:
            text = (self.run_dir / QEMU_LOG).read_text(encoding="utf-8", errors="replace")
            said = first_error_line(text.splitlines())
            return f"QEMU ended with status {status}" + (f": {said}" if said else "")
        causes = {
            "guest-reset": "the primary rebooted (or reset the machine by a triple fault)",
            "guest-shutdown": "the primary powered the machine off",
            "guest-panic": "the primary panicked",
        }
        return causes.get(self.shutdown_cause, f"QEMU ended by itself ({self.shutdown_cause or 'no reason given'})")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
