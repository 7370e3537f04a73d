# SPDX-License-Identifier: Apache-2.0
"""popcorn-vty runs commands through a terminal line and a shell at its far end."""

from __future__ import annotations

import os
import signal
import subprocess
import termios
import threading
import time
from pathlib import Path

import pytest
from vty_terminals import DEADLINE_S, Line, assert_ended, ended, write_kernel


def test_the_exit_status_is_the_commands_own(line: Line) -> None:
    assert line.exec("7", "--", "sh", "-c", "exit 42").returncode == 42


def test_a_command_killed_by_a_signal_gives_128_plus_its_number(line: Line) -> None:
    assert line.exec("7", "--", "sh", "-c", "kill -TERM $$").returncode == 128 + signal.SIGTERM


def test_an_unknown_command_gives_127(line: Line) -> None:
    done = line.exec("7", "--", "no-such-command")
    assert done.returncode == 127
    assert b"no-such-command" in done.stderr


def test_both_streams_arrive_apart(line: Line) -> None:
    done = line.exec("7", "--", "sh", "-c", "echo out; echo err >&2")
    assert (done.stdout, done.stderr) == (b"out\n", b"err\n")


def test_arguments_arrive_as_they_were_given(line: Line) -> None:
    arguments = ["a b", "", "$HOME `id` \\ \"'", "line\nbreak", "\x03\x02\x7f", "é"]
    done = line.exec("7", "--", "printf", "[%s]", *arguments)
    assert done.stdout.decode() == "".join(f"[{argument}]" for argument in arguments)


def test_a_command_longer_than_a_terminal_line_arrives_whole(line: Line) -> None:
    long = "x" * 100_000
    assert line.exec("7", "--", "printf", "%s", long).stdout == long.encode()


def test_binary_output_arrives_unchanged(line: Line) -> None:
    script = "import os; os.write(1, bytes(range(256)) * 256)"
    assert line.exec("7", "--", "python3", "-c", script).stdout == bytes(range(256)) * 256


def test_a_command_that_reads_its_input_finds_it_empty(line: Line) -> None:
    assert line.exec("7", "--", "cat").returncode == 0


def test_a_command_that_reads_the_terminal_finds_none(line: Line) -> None:
    assert line.exec("7", "--", "sh", "-c", "cat </dev/tty").returncode != 0


def test_a_background_process_does_not_hold_the_line(line: Line) -> None:
    done = line.exec("7", "--", "sh", "-c", "sleep 5 & echo $!")
    os.kill(int(done.stdout), signal.SIGKILL)


def test_a_command_that_takes_too_long_is_killed_with_its_children(line: Line) -> None:
    done = line.exec("--timeout", "1", "7", "--", "sh", "-c", "sleep 50 & echo $!; wait")
    assert done.returncode == 124
    assert b"killed after 1 s" in done.stderr
    assert_ended(int(done.stdout))


def test_the_shell_gets_its_terminal_back_as_it_was(line: Line) -> None:
    before = termios.tcgetattr(line.far)
    assert line.exec("7", "--", "true").returncode == 0
    for _ in range(DEADLINE_S * 20):
        if termios.tcgetattr(line.far) == before:
            break
        time.sleep(0.05)
    assert termios.tcgetattr(line.far) == before


def test_commands_follow_each_other_at_once(line: Line) -> None:
    for number in range(5):
        assert line.exec("7", "--", "echo", str(number)).stdout == f"{number}\n".encode()


def test_two_clients_take_turns(line: Line) -> None:
    clients = [
        subprocess.Popen(line.argv("7", "--", "echo", str(number)), stdout=subprocess.PIPE) for number in range(3)
    ]
    outputs = [client.communicate(timeout=DEADLINE_S)[0] for client in clients]
    assert outputs == [b"0\n", b"1\n", b"2\n"]


def test_after_a_killed_client_the_next_command_runs_and_the_old_one_ends(line: Line) -> None:
    client = subprocess.Popen(
        line.argv("7", "--", "sh", "-c", "echo $$; while :; do echo noise; sleep 0.01; done"),
        stdout=subprocess.PIPE,
    )
    assert client.stdout is not None
    pid = int(client.stdout.readline())
    client.kill()
    client.wait()
    client.stdout.close()
    assert line.exec("7", "--", "echo", "next").stdout == b"next\n"
    assert_ended(pid)


def test_a_client_told_to_stop_stops_its_command(line: Line) -> None:
    client = subprocess.Popen(line.argv("7", "--", "sh", "-c", "echo $$; sleep 50"), stdout=subprocess.PIPE)
    assert client.stdout is not None
    pid = int(client.stdout.readline())
    client.terminate()
    assert client.wait(DEADLINE_S) == 128 + signal.SIGTERM
    client.stdout.close()
    assert_ended(pid)


def test_a_half_typed_line_does_no_harm(line: Line) -> None:
    os.write(line.far, b"echo 'unfinished \n more")
    assert line.exec("7", "--", "echo", "fine").stdout == b"fine\n"


def test_a_program_that_holds_the_shell_is_interrupted(line: Line) -> None:
    os.write(line.far, b"sleep 100\n")
    assert line.exec("7", "--", "echo", "fine").stdout == b"fine\n"


def test_a_client_that_was_stopped_between_hello_and_command_begins_anew(silent_line: Line) -> None:
    # A busy host does that: the shell there is slow, the client types ^C, hears the hello and gets no time.
    client = subprocess.Popen(
        silent_line.argv("7", "--", "echo", "fine"), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    silent_line.token()
    client.send_signal(signal.SIGSTOP)
    silent_line.start_shell()
    time.sleep(0.5)
    os.write(silent_line.far, b"\x03")
    time.sleep(5)  # a server that hears ^C waits for 4 s
    client.send_signal(signal.SIGCONT)
    assert client.communicate(timeout=DEADLINE_S) == (b"fine\n", b"")


def test_a_command_that_began_is_not_begun_again(line: Line, tmp_path: Path) -> None:
    begun = tmp_path / "begun"
    client = subprocess.Popen(
        line.argv("7", "--", "sh", "-c", f"echo $$ >>{begun}; echo; sleep 100"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert client.stdout is not None
    assert client.stdout.readline() == b"\n"
    os.write(line.far, b"\x03")
    assert ended(client) == "popcorn-vty: kernel 7: ^C on its line killed the command; the command may have run\n"
    (pid,) = begun.read_text().split()
    assert_ended(int(pid))


def test_foreign_output_between_frames_is_ignored(line: Line) -> None:
    script = f"echo one; sleep 0.3; printf 'noise \\002 noise' >{line.far_path}; sleep 0.3; echo two"
    assert line.exec("7", "--", "sh", "-c", script).stdout == b"one\ntwo\n"


def test_a_shell_that_comes_late_is_waited_for(silent_line: Line) -> None:
    timer = threading.Timer(1.0, silent_line.start_shell)
    timer.start()
    assert silent_line.exec("7", "--", "echo", "fine").stdout == b"fine\n"
    timer.join()


def test_a_missing_shell_is_told_after_the_deadline(silent_line: Line) -> None:
    done = silent_line.exec("--connect-timeout", "1", "7", "--", "true")
    assert done.returncode == 125
    assert b"kernel 7: no shell answers" in done.stderr


def test_a_kernel_without_a_line_is_told(vty_program: Path) -> None:
    done = subprocess.run([vty_program, "exec", "4711", "--", "true"], capture_output=True, check=False)
    assert done.returncode == 125
    assert b"kernel 4711: /dev/vty4711" in done.stderr


@pytest.mark.parametrize(
    ("state", "generation", "told"),
    [("parked", 1, "it has parked"), ("dead", 1, "it is dead"), ("running", 2, "it was started anew")],
)
def test_a_kernel_that_ends_while_a_command_runs_is_told(
    line: Line, kernels: Path, state: str, generation: int, told: str
) -> None:
    client = subprocess.Popen(
        line.argv("7", "--", "sh", "-c", "echo $$; sleep 100"), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert client.stdout is not None
    pid = int(client.stdout.readline())
    write_kernel(kernels, state, generation=generation)
    assert ended(client) == f"popcorn-vty: kernel 7: {told}; the command may have run\n"
    os.kill(pid, signal.SIGKILL)


def test_a_kernel_that_ends_before_its_shell_answers_is_told(silent_line: Line, kernels: Path) -> None:
    client = subprocess.Popen(silent_line.argv("7", "--", "true"), stderr=subprocess.PIPE)
    silent_line.token()
    write_kernel(kernels, "dead", generation=1)
    assert ended(client) == "popcorn-vty: kernel 7: it is dead\n"


def test_a_kernel_that_ended_before_is_told(silent_line: Line, kernels: Path) -> None:
    write_kernel(kernels, "parked", generation=1)
    done = silent_line.exec("7", "--", "true")
    assert (done.returncode, done.stderr) == (125, b"popcorn-vty: kernel 7: it has parked\n")


def test_what_a_kernel_wrote_before_its_end_arrives(line: Line, kernels: Path) -> None:
    write_kernel(kernels, "parked", generation=1)
    parked = kernels.rename(kernels.with_name("parked"))
    write_kernel(kernels, "running", generation=1)
    script = f"mv {parked} {kernels}; sleep 0.2; head -c 20000 /dev/zero; sleep 100"
    client = subprocess.Popen(line.argv("7", "--", "sh", "-c", script), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    printed, _ = client.communicate(timeout=DEADLINE_S)
    assert printed == bytes(20000)


def test_a_session_on_a_kernel_that_ends_is_closed(line: Line, kernels: Path) -> None:
    client = subprocess.Popen(
        [line.program, "connect", "--device", line.near_path, "7"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert client.stdin is not None
    assert client.stdout is not None
    client.stdin.write(b"echo $((6*7))\n")
    client.stdin.flush()
    while b"42" not in client.stdout.readline():
        pass
    write_kernel(kernels, "dead", generation=1)
    client.wait(DEADLINE_S)
    assert ended(client) == "popcorn-vty: kernel 7: it is dead\n"
