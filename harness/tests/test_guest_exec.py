# SPDX-License-Identifier: Apache-2.0
"""Commands in kernels, with ssh servers on this host as the kernels and a shell script as popcorn-vty."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import Empty, SimpleQueue

import pytest
from loopback_ssh import loopback_ssh

from popcorn.cli.main import main
from popcorn.config import load_machine
from popcorn.dirs import runs_dir
from popcorn.errors import GuestError, UserError
from popcorn.guest import several
from popcorn.guest.run import Via, run_in, run_in_all
from popcorn.guest.several import FrameParser, Pace
from popcorn.guest.ssh import UnreachedError
from popcorn.guest.terminal import EscapeFilter
from popcorn.image.keys import keys
from popcorn.machine import registry
from popcorn.machine.machine import Machine
from popcorn.machine.registry import PLAN_FILE
from popcorn.plan import make_plan

VTY = """#!/bin/sh
# popcorn-vty exec [OPTION S]... ID -- CMD...
shift
while [ "${1#--}" != "$1" ]; do shift 2; done
id=$1; shift 2
[ "$id" = 6 ] && { echo "popcorn-vty: kernel 6 is silent" >&2; exit 125; }
KERNEL=$id LINE=vty exec "$@"
"""


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    (tmp_path / "popcorn-vty").write_text(VTY)
    (tmp_path / "popcorn-vty").chmod(0o755)
    plan = make_plan(load_machine("small"), "0-3;4-5;6-7")
    run_dir = runs_dir() / "run"
    run_dir.mkdir()
    (run_dir / PLAN_FILE).write_text(plan.to_json())
    claim = registry.claim("default")
    with loopback_ssh(tmp_path, silent={6}) as port:
        record = registry.Record(
            name="default", status="up", run_dir=str(run_dir), ssh_port=port, kernels=(0, 4, 6), started=1.0
        )
        registry.write_record(record)
        with Machine(record) as machine:
            yield machine
    os.close(claim.lock)


def test_a_command_gives_its_status_and_both_streams_byte_for_byte(machine: Machine) -> None:
    done = machine.exec(0, ["sh", "-c", r"printf '\377\0x'; printf oops >&2; exit 7"])
    assert (done.status, done.stdout, done.stderr) == (7, b"\xff\0x", b"oops")


def test_words_reach_the_command_exactly(machine: Machine) -> None:
    words = ["a b", "$HOME", "'", "", "*", "\n", "-n"]
    done = machine.exec(4, ["printf", "%s|", *words])
    assert done.stdout_text == "".join(f"{word}|" for word in words)


def test_much_output_arrives_whole(machine: Machine) -> None:
    done = machine.exec(0, ["sh", "-c", "head -c 3000000 /dev/zero; head -c 100000 /dev/zero >&2"])
    assert (len(done.stdout), len(done.stderr)) == (3000000, 100000)


def test_a_command_that_takes_too_long_is_an_error(machine: Machine) -> None:
    with pytest.raises(GuestError, match=r"sleep 30 did not end within 0\.3 s"):
        machine.exec(0, ["sleep", "30"], timeout_s=0.3)


def test_a_command_that_was_given_up_is_ended_with_all_that_it_started(machine: Machine, tmp_path: Path) -> None:
    script = f"trap 'echo told >{tmp_path}/told; exit' TERM; sleep 300 & echo $$ $! >{tmp_path}/pids; wait"
    with pytest.raises(GuestError, match="did not end within"):
        machine.exec(4, ["sh", "-c", script], timeout_s=1)
    pids = [int(pid) for pid in (tmp_path / "pids").read_text().split()]
    assert len(pids) == 2
    deadline = time.monotonic() + 20
    while any(_runs(pid) for pid in pids):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert (tmp_path / "told").read_text() == "told\n"


def _runs(pid: int) -> bool:
    try:
        return ") Z " not in Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return False


def test_a_command_that_dies_by_a_signal_ends_with_128_and_its_number(machine: Machine) -> None:
    for number in (signal.SIGKILL, signal.SIGINT, signal.SIGTERM):
        assert machine.exec(4, ["sh", "-c", f"kill -{int(number)} $$"], via="net").status == 128 + number


def test_a_command_that_begins_with_a_dash_is_a_command(machine: Machine) -> None:
    done = machine.exec(4, ["-l", "a b"], via="net")
    assert done.status == 127
    assert "-l: No such file" in done.stderr_text


def test_output_is_passed_on_while_the_command_runs(machine: Machine) -> None:
    pieces: list[tuple[str, bytes]] = []
    run_in(
        machine.connections,
        0,
        ["sh", "-c", "echo out; echo err >&2"],
        on_output=lambda name, data: pieces.append((name, data)),
    )
    assert sorted(pieces) == [("stderr", b"err\n"), ("stdout", b"out\n")]


def test_files_go_in_and_out_byte_for_byte(machine: Machine, tmp_path: Path) -> None:
    content = bytes(range(256)) * 5000
    target = tmp_path / "deep" / "er" / "file"
    machine.primary.put(content, str(target), 0o750)
    assert target.stat().st_mode & 0o777 == 0o750
    assert machine.primary.get(str(target)) == content
    with pytest.raises(GuestError, match="cannot read /nowhere"):
        machine.primary.get("/nowhere")


@pytest.mark.parametrize("via", ["auto", "net", "vty"])
def test_all_kernels_answer_each_for_itself(machine: Machine, via: Via) -> None:
    answers = run_in_all(machine.connections, ["sh", "-c", "echo I am ${KERNEL:-0}"], via=via)
    assert [answers[0].stdout_text, answers[4].stdout_text] == ["I am 0\n", "I am 4\n"]
    assert answers[6].status == 125
    expected = "the sshd of kernel 6 does not answer at 10.80.0.7" if via == "net" else "kernel 6 is silent"
    assert expected in answers[6].stderr_text


def test_a_command_takes_the_way_that_is_asked_for(machine: Machine) -> None:
    ask = ["sh", "-c", "echo ${KERNEL} by ${LINE:-net}"]
    assert [machine.exec(4, ask, via=via).stdout for via in ("auto", "net", "vty")] == [
        b"4 by net\n",
        b"4 by net\n",
        b"4 by vty\n",
    ]


def test_a_kernel_whose_sshd_is_silent_is_reached_by_its_line(
    machine: Machine, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    vty = tmp_path / "popcorn-vty"
    vty.write_text(VTY.replace("6 ]", "none ]"))
    assert machine.exec(6, ["sh", "-c", "echo ${KERNEL} by ${LINE}"]).stdout == b"6 by vty\n"
    assert "its terminal line is used" in capfd.readouterr().err
    with pytest.raises(UnreachedError, match="the sshd of kernel 6 does not answer"):
        machine.exec(6, ["true"], via="net")


@pytest.mark.parametrize(
    ("said", "answer"),
    [("no shell answers on its line", b"4 by net\n"), ("it stopped answering; the command may have run", b"")],
)
def test_of_many_what_did_not_run_by_line_is_run_by_net(
    machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: str, answer: bytes
) -> None:
    monkeypatch.setattr("popcorn.guest.run._MANY", 1)
    vty = tmp_path / "popcorn-vty"
    vty.write_text(VTY.replace("6 ]", "4 ]").replace("kernel 6 is silent", f"kernel 4: {said}"))
    done = machine.exec_all(["sh", "-c", "echo ${KERNEL:-0} by ${LINE:-net}"])[4]
    assert (done.stdout, done.status) == (answer, 0 if answer else 125)


def test_a_command_too_long_for_the_sshd_is_the_users_mistake(machine: Machine) -> None:
    with pytest.raises(UserError, match="the sshd of kernel 4 takes 9000"):
        machine.exec(4, ["echo", "x" * 9000])


def test_a_kernel_that_is_not_in_the_plan_is_the_users_mistake(machine: Machine) -> None:
    with pytest.raises(UserError, match="no kernel 5"):
        machine.exec(5, ["true"])


def test_a_primary_with_another_host_key_is_not_trusted(machine: Machine) -> None:
    keys().host.unlink()
    with pytest.raises(GuestError, match="other keys"):
        machine.exec(0, ["true"])


def test_among_several_one_that_takes_too_long_is_124(machine: Machine) -> None:
    answers = run_in_all(machine.connections, ["sh", "-c", "[ $KERNEL ] || sleep 30"], timeout_s=1)
    assert (answers[0].status, answers[4].status) == (124, 0)


def test_who_hangs_up_after_the_machine_has_gone_is_not_troubled(machine: Machine) -> None:
    assert machine.exec(4, ["true"], via="net").status == 0
    gateway = machine.primary._gateway
    assert gateway is not None
    gateway.get_transport().close()
    machine.close()


def test_ssh_gives_the_command_our_stdin_and_its_status(machine: Machine) -> None:
    argv = [sys.executable, "-P", "-m", "popcorn", "ssh", "4", "--", "sh", "-c", "cat; echo $KERNEL >&2; exit 5"]
    done = subprocess.run(argv, input=b"in\0\xff", capture_output=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (5, b"in\0\xff", b"4\n")


def test_ssh_to_a_silent_kernel_points_to_the_console(machine: Machine, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["ssh", "6", "--", "true"]) == 3
    assert "popcorn console 6" in capfd.readouterr().err


def test_exec_ends_like_the_command(machine: Machine, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    assert main(["exec", "4", "--", "sh", "-c", "echo out; echo err >&2; exit 9"]) == 9
    assert capfdbinary.readouterr() == (b"out\n", b"err\n")


def test_exec_all_is_1_when_one_failed_and_tells_which(machine: Machine, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["exec", "0,4", "--", "sh", "-c", "echo hi"]) == 0
    assert capfd.readouterr().out == "0: hi\n4: hi\n"
    assert main(["exec", "all", "--", "sh", "-c", "echo hi"]) == 1
    out, err = capfd.readouterr()
    assert out == "0: hi\n4: hi\n"
    assert "6: [exit status 125]" in err


def test_exec_all_as_json_tells_each_kernels_answer(machine: Machine, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["exec", "--json", "all", "--", "echo", "hi"]) == 1
    answers = json.loads(capfd.readouterr().out)
    assert answers["4"] == {"status": 0, "stdout": "hi\n", "stderr": ""}
    assert answers["6"]["status"] == 125


def test_exec_on_a_kernel_that_is_not_there_is_2(machine: Machine, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["exec", "3", "--", "true"]) == 2
    assert "the kernels of this machine are 0,4,6" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["one", "--", "true"], "'one' names no kernels"),
        (["4", "--json", "--", "true"], "'--json' stands where the command begins"),
        (["4", "-n", "--", "true"], "'-n' stands where the command begins"),
    ],
)
def test_exec_that_is_written_wrongly_is_2(
    words: list[str], said: str, machine: Machine, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main(["exec", *words]) == 2
    assert said in capfd.readouterr().err


def test_a_primary_that_goes_while_a_command_runs_is_told(machine: Machine) -> None:
    with pytest.raises(GuestError, match="the connection broke"):
        machine.exec(0, ["hang-up"])


def test_exec_without_a_machine_is_2(capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["exec", "--name", "none", "0", "--", "true"]) == 2
    assert "no machine named 'none'" in capfd.readouterr().err


def test_tilde_dot_leaves_only_at_the_beginning_of_a_line() -> None:
    assert EscapeFilter().feed(b"~.") == (b"", True)
    assert EscapeFilter().feed(b"a~.b") == (b"a~.b", False)
    escape = EscapeFilter()
    assert escape.feed(b"ls\r~") == (b"ls\r", False)
    assert escape.feed(b".") == (b"", True)


def test_two_tildes_are_one_and_a_tilde_before_else_is_kept() -> None:
    assert EscapeFilter().feed(b"~~.") == (b"~.", False)
    assert EscapeFilter().feed(b"~/x\r") == (b"~/x\r", False)


def test_an_answer_is_cut_out_wherever_the_stream_is_broken() -> None:
    stream = b"4 0 3 1\na\nbX" + b"12 7 0 0\n" + b"0 1 2 0\nok"
    expected = [(4, 0, b"a\nb", b"X"), (12, 7, b"", b""), (0, 1, b"ok", b"")]
    for step in (1, 2, 5, len(stream)):
        parser = FrameParser(["true"])
        heard = [
            (id, done.status, done.stdout, done.stderr)
            for at in range(0, len(stream), step)
            for id, done in parser.feed(stream[at : at + step])
        ]
        assert heard == expected


def test_a_few_begin_and_each_answer_lets_another_one_begin() -> None:
    pace = Pace(young=2, young_s=60, spare=lambda: False)
    begun: SimpleQueue[bytes] = SimpleQueue()
    threading.Thread(target=lambda: [begun.put(id) for id in pace.turns([1, 2, 3, 4])], daemon=True).start()
    assert [begun.get(timeout=10) for _ in range(2)] == [b"1\n", b"2\n"]
    with pytest.raises(Empty):
        begun.get(timeout=0.2)
    pace.answered(2)
    assert begun.get(timeout=10) == b"3\n"
    with pytest.raises(Empty):
        begun.get(timeout=0.2)
    pace.answered(1)
    assert begun.get(timeout=10) == b"4\n"


@pytest.mark.parametrize("pace", [Pace(young=1, young_s=0.01, spare=lambda: False), Pace(young=1), Pace()])
def test_neither_what_takes_long_nor_what_is_idle_keeps_others_from_beginning(pace: Pace) -> None:
    assert list(pace.turns(range(5))) == [b"0\n", b"1\n", b"2\n", b"3\n", b"4\n"]


def test_who_has_gone_is_told_of_no_more_kernels() -> None:
    pace = Pace(young=1, young_s=60, spare=lambda: False)
    turns = pace.turns([1, 2])
    assert next(turns) == b"1\n"
    threading.Timer(0.1, pace.end).start()
    assert list(turns) == []


PRINT = r"""printf '%s|' "$@"; printf '\377\0'; echo e >&2; exit 3"""


def test_who_hangs_up_with_all_answers_does_not_keep_several_from_tidying_up(tmp_path: Path) -> None:
    # It hangs up just when the folder is about to go.
    rm = tmp_path / "rm"
    rm.write_text(f'#!/bin/sh\n[ "$1" = -rf ] && echo "$2" >{tmp_path}/tidied && kill -TERM 0\nexec /bin/rm "$@"\n')
    rm.chmod(0o755)
    command = several.script(["echo", "fine"], primary=0, launcher=["false"])
    path = f"{tmp_path}:{os.environ['PATH']}"
    done = subprocess.run(
        command,
        input=b"0\n",
        env={**os.environ, "PATH": path},
        capture_output=True,
        start_new_session=True,
        check=False,
    )
    assert done.stdout == b"0 0 5 0\nfine\n"
    assert not Path((tmp_path / "tidied").read_text().strip()).exists()


def test_words_reach_several_kernels_exactly_and_so_do_bytes(machine: Machine) -> None:
    words = ["a b", "$HOME", "'", "{}", "*", "\n", "%s", "\\"]
    answers = run_in_all(machine.connections, ["sh", "-c", PRINT, "sh", *words])
    for id in (0, 4):
        assert answers[id].stdout == "".join(f"{word}|" for word in words).encode() + b"\xff\0"
        assert (answers[id].stderr, answers[id].status) == (b"e\n", 3)


def test_commands_side_by_side_do_not_share_a_connection(machine: Machine) -> None:
    with ThreadPoolExecutor(6) as pool:
        statuses = pool.map(lambda n: machine.exec(0, ["sh", "-c", f"sleep 0.1; exit {n}"]).status, range(6))
    assert list(statuses) == list(range(6))
