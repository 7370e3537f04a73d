# SPDX-License-Identifier: Apache-2.0
"""One run: pytest is the real one, on suites of three lines; machines are stand-ins."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from popcorn.bisect import trial as trials
from popcorn.bisect.actions import Terms, Try
from popcorn.bisect.evidence import Run, Stage
from popcorn.bisect.task import Task, Test
from popcorn.bisect.trial import Laboratory
from popcorn.build.buildlog import FirstError
from popcorn.build.kbuild import KernelBuildError
from popcorn.errors import DiskFullError, GuestError, HostError, MachineLostError, UserError
from popcorn.guest.finished import Finished
from popcorn.machine import assemble, boot

Laboratories = Callable[..., Laboratory]
STEP = Try("c" * 40, "search")


@pytest.fixture
def laboratory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Laboratories:
    """A laboratory whose kernels are there already."""
    kernel = SimpleNamespace(dir=tmp_path / "kernel", series="6.12", flavour="default", bzimage=tmp_path / "bzImage")
    monkeypatch.setattr(trials, "kernel_of", lambda task, repository, commit: kernel)

    def made(test: Test, **options: Any) -> Laboratory:
        task = Task("patches", "a" * 40, "b" * 40, test, Terms(0.005, 0.005), accel="tcg", **options)
        plan = SimpleNamespace(secondaries=[SimpleNamespace(id=1)], primary=SimpleNamespace(id=0))
        return Laboratory(task, tmp_path / "runs", tmp_path, lambda words: plan)  # type: ignore[arg-type, return-value]

    return made


def suite(tmp_path: Path, body: str) -> Test:
    """A suite with one test."""
    path = tmp_path / "test_suite.py"
    path.write_text(f"import os, pytest, time\nfrom popcorn.errors import HostError\n\ndef test_it():\n    {body}\n")
    return Test("suite", f"{path}::test_it", timeout_s=30)


@pytest.mark.parametrize(
    ("body", "result", "title"),
    [
        ("assert os.environ['POPCORN_KERNEL'].endswith('/kernel')", "passed", ""),
        ("assert os.environ['POPCORN_ACCEL'] == 'tcg' and os.environ['POPCORN_SLOW']", "passed", ""),
        ("assert 4 == 5", "failed", "test_it: failed"),
        ("raise KeyError(3)", "failed", "test_it: KeyError"),
        ("raise HostError('the disk')", "lost", "test_it: HostError"),
        ("os._exit(9)", "lost", "pytest was killed"),
        (
            "open(os.path.dirname(__file__) + '/runs/0007/junit.xml', 'w').close(); os._exit(9)",
            "lost",
            "pytest was killed",
        ),
    ],
)
def test_a_suite_tells_by_its_report(
    laboratory: Laboratories, tmp_path: Path, body: str, result: str, title: str
) -> None:
    run = laboratory(suite(tmp_path, body))(STEP, 7)
    assert (run.result, run.title, run.folder) == (result, title, "runs/0007")
    assert (tmp_path / "runs" / "0007" / "pytest.log").is_file()


def test_a_suite_that_does_not_end_has_failed(laboratory: Laboratories, tmp_path: Path) -> None:
    run = laboratory(replace(suite(tmp_path, "time.sleep(600)"), timeout_s=3))(STEP, 1)
    assert run.result == "failed"
    assert "did not end within 3 s" in run.title


@pytest.mark.parametrize(
    ("body", "what", "cause"),
    [
        ("pytest.skip('needs KVM')", None, "was skipped: .*needs KVM"),
        ("pass", "::test_other", "pytest cannot run|no test is called"),
        ("pass", "/nonexistent/test_x.py", "pytest cannot run|no test is called"),
    ],
)
def test_a_suite_that_cannot_tell_is_the_users_to_mend(
    laboratory: Laboratories, tmp_path: Path, body: str, what: str | None, cause: str
) -> None:
    test = suite(tmp_path, body)
    if what is not None:
        test = replace(test, what=what if what.startswith("/") else test.what.replace("::test_it", what))
    with pytest.raises(UserError, match=cause):
        laboratory(test)(STEP, 1)


class FakeMachine:
    """Answers a command, and can be ended as often as one likes."""

    def __init__(self, answer: int | Exception) -> None:
        self.answer, self.asked = answer, []  # type: tuple[int | Exception, list[object]]

    def exec(self, id: int, argv: list[str], *, timeout_s: float) -> Finished:
        self.asked.append((id, argv))
        if isinstance(self.answer, Exception):
            raise self.answer
        return Finished(tuple(argv), self.answer, b"out", b"")

    def down(self) -> None:
        pass


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Callable[[object], FakeMachine]:
    """What booting comes to: an answer to the command, or an error."""

    def booting(answer: object, *, boots: Exception | None = None) -> FakeMachine:
        fake = FakeMachine(answer)  # type: ignore[arg-type]

        def up(*words: object, **options: object) -> FakeMachine:
            if boots is not None:
                raise boots
            return fake

        monkeypatch.setattr(assemble, "kernel_files", lambda *words, **options: (None, None))
        monkeypatch.setattr(boot, "up", up)
        return fake

    return booting


def outcome(run: Run) -> tuple[str, Stage, str]:
    return run.result, run.stage, run.title


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (0, ("passed", Stage.TEST, "")),
        (3, ("failed", Stage.TEST, "the command ended with status 3")),
        (GuestError("kernel 1 does not answer"), ("failed", Stage.TEST, "kernel 1 does not answer")),
        (MachineLostError("QEMU is gone"), ("lost", Stage.TEST, "QEMU is gone")),
    ],
)
def test_a_command_tells_by_its_status(
    laboratory: Laboratories, machine: Callable[..., FakeMachine], answer: object, told: tuple[str, Stage, str]
) -> None:
    fake = machine(answer)
    assert outcome(laboratory(Test("command", "true"))(STEP, 1)) == told
    assert fake.asked == [(1, ["sh", "-c", "true"])]


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (GuestError("kernel 3 got stuck\nsee"), ("failed", Stage.BOOT, "did not boot: kernel 3 got stuck")),
        (HostError("QEMU did not start"), ("lost", Stage.BOOT, "did not boot: QEMU did not start")),
    ],
)
def test_a_machine_that_does_not_come_up_is_told_apart_from_a_host_that_fails(
    laboratory: Laboratories, machine: Callable[..., FakeMachine], error: Exception, told: tuple[str, Stage, str]
) -> None:
    machine(0, boots=error)
    assert outcome(laboratory(Test("command", "true"))(STEP, 1)) == told


def test_a_run_goes_no_further_than_it_is_asked_to(
    laboratory: Laboratories, machine: Callable[..., FakeMachine]
) -> None:
    fake = machine(3)
    at_work = laboratory(Test("command", "true"))
    assert outcome(at_work(replace(STEP, until=Stage.BUILD), 1)) == ("passed", Stage.BUILD, "")
    assert outcome(at_work(replace(STEP, until=Stage.BOOT), 2)) == ("passed", Stage.BOOT, "")
    assert fake.asked == []
    assert outcome(laboratory(Test("build"))(STEP, 3)) == ("passed", Stage.BUILD, "")


def test_a_full_disk_ends_the_search_and_what_does_not_build_is_a_verdict(
    laboratory: Laboratories, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    error: Exception = KernelBuildError("no", hint="see", first=FirstError("a.c", 3, "'x' undeclared", ()))

    def build(*words: object) -> None:
        raise error

    monkeypatch.setattr(trials, "kernel_of", build)
    run = laboratory(Test("command", "true"))(STEP, 1)
    assert outcome(run) == ("failed", Stage.BUILD, "does not build: a.c: 'x' undeclared")
    assert (tmp_path / run.folder / "build.txt").read_text().startswith("no\nsee")
    error = DiskFullError("full")
    with pytest.raises(DiskFullError):
        laboratory(Test("command", "true"))(STEP, 2)
