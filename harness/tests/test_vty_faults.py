# SPDX-License-Identifier: Apache-2.0
"""popcorn-vty on bad lines, and with ends that stand still or die: a command runs once at most, and exec tells."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import time
from pathlib import Path

from vty_terminals import DEADLINE_S, Line, assert_ended, ended, frame

LONG = ("x" * 100_000, "y" * 100_000)
"""Arguments that no terminal takes at once."""


def start(line: Line, *argv: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(line.argv(*argv), stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def kill(client: subprocess.Popen[bytes]) -> None:
    client.kill()
    client.communicate()


def first_line(client: subprocess.Popen[bytes]) -> bytes:
    assert client.stdout is not None
    return client.stdout.readline()


def fill_answers(line: Line) -> None:
    """Write to the far terminal until it takes no more."""
    far = os.open(line.far_path, os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY)
    try:
        while True:
            os.write(far, b"noise\n")
    except BlockingIOError:
        pass
    finally:
        os.close(far)


def test_two_servers_never_run_one_command(silent_line: Line, tmp_path: Path) -> None:
    # The first server came late, heard ^C, and left. It says so when the client has just asked again.
    def answer_late(typed: bytes) -> bytes:
        if b"serve" in typed and b"\x03" in silent_line.typed:
            silent_line.change_typed = bytes
            os.write(silent_line.near, frame(first, 0, "h", b"1") + frame(first, 1, "l"))
        return typed

    begun = tmp_path / "begun"
    client = start(silent_line, "7", "--", "sh", "-c", f"echo run >>{begun}; sleep 0.5")
    first = silent_line.token()
    silent_line.change_typed = answer_late
    silent_line.before_line_s = 0.3
    silent_line.wait_typed(b"\x03")
    silent_line.start_shell()
    assert client.communicate(timeout=DEADLINE_S) == (b"", b"")
    assert begun.read_text() == "run\n"


def test_each_line_a_client_types_asks_for_a_session_of_its_own(silent_line: Line) -> None:
    client = start(silent_line, "7", "--", "true")
    tokens = silent_line.wait_typed(rb"(?s)serve (\w+)\n\x03.*serve (\w+)\n").groups()
    kill(client)
    assert tokens[0] != tokens[1]


def test_a_status_that_came_while_the_client_stood_still_is_in_time(line: Line) -> None:
    client = start(line, "--timeout", "1", "7", "--", "sh", "-c", "echo; sleep 0.2; exit 3")
    first_line(client)
    client.send_signal(signal.SIGSTOP)
    time.sleep(1.2)
    client.send_signal(signal.SIGCONT)
    assert client.communicate(timeout=DEADLINE_S) == (b"", b"")
    assert client.returncode == 3


def test_damage_while_the_command_runs_leaves_open_whether_it_ran(line: Line) -> None:
    client = start(line, "7", "--", "sh", "-c", "echo $$; sleep 100")
    pid = int(first_line(client))
    os.write(line.far, f"\x02{line.token()} garbled k  00000000\n".encode())
    assert ended(client) == "popcorn-vty: kernel 7: a frame was damaged on the line; the command may have run\n"
    assert_ended(pid)


def test_damage_before_the_command_came_whole_leaves_the_far_end_in_order(line: Line) -> None:
    # The server can tell nothing for the moment, and every further frame is one too many.
    def damage(typed: bytes) -> bytes:
        damaged = typed.replace(b" 00000000 a ", b" 00000000 A ")
        if damaged != typed:
            line.answers_held = True
            fill_answers(line)
        return damaged

    line.change_typed = damage
    client = start(line, "7", "--", "echo", *LONG)
    line.wait_typed(b" r ")
    time.sleep(0.2)
    line.answers_held = False
    assert ended(client) == "popcorn-vty: kernel 7: a frame was damaged on the line\n"
    line.change_typed = bytes
    assert line.exec("7", "--", "echo", "fine").stdout == b"fine\n"


def test_a_client_told_to_stop_while_the_line_is_full_runs_nothing(line: Line) -> None:
    def hold(typed: bytes) -> bytes:
        line.typing_held = b" a " in typed
        return typed

    line.change_typed = hold
    client = start(line, "7", "--", "echo", *LONG)
    line.wait_typed(b" a ")
    time.sleep(0.3)
    client.terminate()
    time.sleep(0.2)
    line.change_typed = bytes
    line.typing_held = False
    assert client.communicate(timeout=5) == (b"", b"")
    assert client.returncode == 128 + signal.SIGTERM


def test_a_status_waits_for_a_line_that_is_full(line: Line, tmp_path: Path) -> None:
    done = tmp_path / "done"
    client = start(line, "7", "--", "sh", "-c", f"echo; until test -e {done}; do sleep 0.1; done; exit 7")
    first_line(client)
    line.answers_held = True
    fill_answers(line)
    done.touch()
    time.sleep(3)
    line.answers_held = False
    assert client.communicate(timeout=5) == (b"", b"")
    assert client.returncode == 7


def test_what_a_killed_client_had_half_written_does_no_harm(line: Line) -> None:
    client = start(line, "7", "--", "sh", "-c", "echo; sleep 100")
    first_line(client)
    old = line.token()
    kill(client)
    words = line.typed.partition(old.encode())[0]
    near = os.open(line.near_path, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)
    try:
        for leftover in (f"\x02{old} 0000".encode(), words + b"01234"):
            new = f"{len(leftover):016x}"
            os.write(near, leftover + words + new.encode() + b"\n")
            heard = b""
            while frame(new, 0, "h", b"1") not in heard:
                assert select.select([near], [], [], 2)[0], heard
                heard += os.read(near, 512)
    finally:
        os.close(near)


def test_a_noisy_background_process_does_not_hold_the_line(line: Line, tmp_path: Path) -> None:
    done = tmp_path / "done"
    script = f"echo; yes & until test -e {done}; do sleep 0.1; done; exit 3"
    client = start(line, "7", "--", "sh", "-c", script)
    first_line(client)
    line.answers_held = True
    done.touch()
    time.sleep(0.5)
    line.answers_held = False
    printed, said = client.communicate(timeout=DEADLINE_S)
    assert (client.returncode, said) == (3, b"")
    # What a pipe and the terminals hold, and not what it goes on to write.
    assert len(printed) < 150_000


def test_a_client_whose_output_nobody_takes_still_ends_when_told(line: Line) -> None:
    client = start(line, "7", "--", "yes")
    first_line(client)
    time.sleep(0.5)
    client.terminate()
    assert client.wait(5) == 128 + signal.SIGTERM
    assert client.communicate()[1] == b""


def test_a_command_whose_output_nobody_takes_is_killed_in_time(line: Line) -> None:
    client = start(line, "--timeout", "1", "7", "--", "sh", "-c", "echo $$; exec yes")
    pid = int(first_line(client))
    try:
        assert_ended(pid, within_s=4)
    finally:
        kill(client)


def test_after_a_killed_server_the_next_command_runs(line: Line) -> None:
    client = start(line, "7", "--", "sh", "-c", "echo $PPID; sleep 1")
    os.kill(int(first_line(client)), signal.SIGKILL)
    kill(client)
    assert line.exec("7", "--", "echo", "fine", timeout=5).stdout == b"fine\n"
