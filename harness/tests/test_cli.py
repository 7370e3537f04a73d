# SPDX-License-Identifier: Apache-2.0
"""The command line: verbs, exit statuses and messages."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import click
import pytest

from popcorn.cli import main as cli
from popcorn.errors import (
    CheckFailed,
    DiskFullError,
    GuestError,
    HostError,
    MachineLostError,
    NoRoomError,
    PopcornError,
    UserError,
)
from popcorn.plan import make_plan, read_plan, validate

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> Callable[[BaseException], int]:
    """Run a verb that raises an error."""

    def run(error: BaseException) -> int:
        @click.command()
        def verb() -> None:
            raise error

        monkeypatch.setattr(cli.LazyGroup, "list_commands", lambda *_: ["verb"])
        monkeypatch.setattr(cli.LazyGroup, "get_command", lambda *_: verb)
        return cli.main(["verb"])

    return run


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (PopcornError("m"), 1),
        (CheckFailed("m"), 1),
        (UserError("m"), 2),
        (NoRoomError("m"), 2),
        (HostError("m"), 3),
        (DiskFullError("m"), 3),
        (MachineLostError("m"), 3),
        (GuestError("m"), 3),
        (OSError(errno.ENOSPC, "No space left on device"), 3),
        (OSError(errno.EIO, "Input/output error"), 3),
        (KeyboardInterrupt(), 130),
        (click.UsageError("m"), 2),
        (BrokenPipeError(), 141),
    ],
)
def test_each_error_has_its_exit_status(
    failing: Callable[[BaseException], int], error: BaseException, status: int
) -> None:
    assert failing(error) == status


def test_an_error_is_one_message_with_a_hint_and_no_traceback(
    failing: Callable[[BaseException], int], capsys: Capture
) -> None:
    failing(UserError("this is wrong", hint="do that"))
    assert capsys.readouterr().err == "popcorn: error: this is wrong\n  hint: do that\n"


def test_a_verb_may_end_with_a_status_of_its_own(failing: Callable[[BaseException], int]) -> None:
    with pytest.raises(SystemExit) as caught:
        failing(SystemExit(42))
    assert caught.value.code == 42


def test_every_listed_verb_is_there_and_has_help(capsys: Capture) -> None:
    context = click.Context(cli.popcorn)
    assert isinstance(cli.popcorn, cli.LazyGroup)
    verbs = cli.popcorn.list_commands(context)
    assert {"plan", "probe", "doctor", "test"} <= set(verbs)
    for verb in verbs:
        assert cli.main([verb, "--help"]) == 0
        assert "Usage: popcorn" in capsys.readouterr().out


def test_a_verb_whose_module_is_not_there_is_not_listed(monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    monkeypatch.setitem(cli.VERBS, "fly", ("popcorn.cli.fly:fly", "not yet"))
    cli.main(["--help"])
    assert "fly" not in capsys.readouterr().out
    assert cli.main(["fly"]) == 2


def test_a_mistyped_verb_gets_the_nearest_one(capsys: Capture) -> None:
    assert cli.main(["paln"]) == 2
    assert "plan" in capsys.readouterr().err


def test_help_imports_no_verb() -> None:
    code = (
        "import sys; from popcorn.cli.main import main; main(['--help']);"
        "sys.exit(any(name.startswith(('pydantic', 'rich', 'paramiko', 'popcorn.plan')) for name in sys.modules))"
    )
    environment = {"PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, env=environment)
    assert done.returncode == 0


def test_plan_prints_json_that_can_be_given_back(capsys: Capture, tmp_path: Path) -> None:
    assert cli.main(["plan", "--machine", "small", "--policy", "per-node", "--json"]) == 0
    text = capsys.readouterr().out
    document = json.loads(text)
    assert {"machine", "partitions"} <= set(document)
    assert set(document["partitions"][0]) == {"id", "cpus", "apic_ids", "memory", "devices", "cmdline"}
    assert set(document["partitions"][0]["memory"][0]) == {"start", "size", "node"}
    path = tmp_path / "plan.json"
    path.write_text(text)
    assert cli.main(["plan", "--plan", str(path), "--json"]) == 0
    assert capsys.readouterr().out == text


def test_plan_shows_every_kernel_without_colour(capsys: Capture) -> None:
    assert cli.main(["plan", "--machine", "paper", "--policy", "0-5;6,8,10;7,9,11"]) == 0
    out = capsys.readouterr().out
    assert "6:[6 8 10]  7:[7 9 11]" in out
    assert "0 primary  0-5" in out
    assert "\x1b" not in out


def test_plan_draws_an_svg(tmp_path: Path) -> None:
    from xml.etree import ElementTree

    path = tmp_path / "plan.svg"
    assert cli.main(["plan", "--machine", "paper", "--svg", str(path)]) == 0
    titles = [element.text or "" for element in ElementTree.parse(path).iter("{http://www.w3.org/2000/svg}title")]
    assert sum(title.startswith("CPU ") for title in titles) == 48
    assert any("kernel 47" in title for title in titles)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--machine", "papper"], "unknown machine 'papper'"),
        (["--policy", "per-coer"], "unknown policy"),
        (["--size", "lots"], "no amount of memory"),
        (["--size", "x=1GiB"], "is no kernel"),
        (["--size", "1TiB"], "are asked of it"),
        (["--device", "net0"], "names no kernel"),
        (["--device", "net0=1"], "only the primary"),
        (["--append", "x" * 3000], "the kernel takes 2047"),
        (["--plan", "none.json"], "cannot read the plan none.json"),
        (["--plan", "none.json", "--policy", "smp"], "cannot be combined"),
        (["--memory", "big"], "unknown way"),
    ],
)
def test_a_mistake_on_the_command_line_ends_with_2(arguments: list[str], said: str, capsys: Capture) -> None:
    assert cli.main(["plan", *arguments]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert said in captured.err


def test_one_size_is_for_every_secondary_and_can_be_overridden(capsys: Capture) -> None:
    options = ["--size", "7=256MiB", "--size", "128MiB"]
    assert cli.main(["plan", "--machine", "small", "--json", *options]) == 0
    plan = read_plan(capsys.readouterr().out)
    sizes = {partition.id: partition.memory_bytes >> 20 for partition in plan.secondaries}
    assert sizes == {1: 128, 2: 128, 3: 128, 4: 128, 5: 128, 6: 128, 7: 256}
    validate(plan)
    assert plan.primary.memory_bytes > make_plan(plan.machine, "per-core").primary.memory_bytes


def test_two_runs_of_the_tests_in_one_checkout_go_one_after_the_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "tox.ini").write_text("")
    monkeypatch.setattr("popcorn.dirs.source_root", lambda: tmp_path)
    monkeypatch.setattr("popcorn.hostpackages.ensure", lambda verb: None)
    at_once: list[int] = []
    running: list[int] = []

    def run(root: Path, reports: Path, suites: tuple[str, ...], arguments: tuple[str, ...]) -> bool:
        running.append(1)
        at_once.append(len(running))
        time.sleep(0.3)
        running.pop()
        return False

    monkeypatch.setattr("popcorn.cli.test._run", run)

    def test_unit() -> None:
        with contextlib.suppress(SystemExit):
            cli.main(["test", "unit"])

    threads = [threading.Thread(target=test_unit) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert at_once == [1, 1, 1]
