# SPDX-License-Identifier: Apache-2.0
"""One run of the test on one candidate: build, boot a machine from scratch, test, tell what it came to."""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path

from popcorn.bisect.actions import Try
from popcorn.bisect.candidate import kernel_of, plan_words_of
from popcorn.bisect.classify import (
    Outcome,
    SuiteResult,
    build_failure,
    failed_start,
    failure,
    machines_below,
    read_junit,
)
from popcorn.bisect.evidence import Run, Stage
from popcorn.bisect.task import PlanWords, Task
from popcorn.build.artifacts import KernelArtifact
from popcorn.build.kernel import KERNEL_VARIABLE
from popcorn.build.series import series_names
from popcorn.dirs import source_root
from popcorn.errors import DiskFullError, GuestError, HostError, MachineLostError, PopcornError, UserError
from popcorn.junit import is_whole
from popcorn.machine import kvm
from popcorn.machine.boot import ACCEL_VARIABLE
from popcorn.machine.machine import Machine
from popcorn.machine.qemu import Accel
from popcorn.plan.model import Plan
from popcorn.process import run

MACHINE = "machine"
"""Where a run's machine is recorded, below its folder."""
_BOOT_STALL_S = 60.0
_KILL_AFTER_S = 10
_TIMED_OUT, _NO_TESTS, _MISUSED, _INTERNAL, _INTERRUPTED = 124, 5, 4, 3, 2

MakePlan = Callable[[PlanWords], Plan]


class Laboratory:
    """Runs the test of a task."""

    def __init__(self, task: Task, folder: Path, repository: Path, make_plan: MakePlan) -> None:
        """
        Args:
            folder: where each run's logs go.
            repository: the search's, which has the candidates.
            make_plan: the plan that words describe.
        """
        self.task, self.folder, self.repository = task, folder, repository
        self._make_plan = make_plan
        self.kernels: dict[str, KernelArtifact] = {}
        """Of each candidate that was built by this process."""
        self._chosen_accel: Accel | None = None

    def __call__(self, step: Try, number: int) -> Run:
        """Run the test once.

        Raises:
            UserError: the test itself is at fault, or the disk is full.
        """
        place = self.folder / f"{number:04}"
        # A predecessor that was killed may have left one.
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir(parents=True)
        began = time.monotonic()
        outcome = self._outcome(step, place)
        return Run(
            commit=step.commit,
            result=outcome.result,
            stage=outcome.stage,
            title=outcome.title,
            elapsed_s=round(time.monotonic() - began, 1),
            value=outcome.value,
            folder=f"{self.folder.name}/{place.name}",
        )

    def _outcome(self, step: Try, place: Path) -> Outcome:
        try:
            kernel = self.kernels[step.commit] = kernel_of(self.task, self.repository, step.commit)
        except DiskFullError:
            raise
        except PopcornError as error:
            (place / "build.txt").write_text(f"{error}\n{error.hint}\n", encoding="utf-8")
            return build_failure(error)
        if step.until is Stage.BUILD or self.task.test.how == "build":
            return Outcome("passed", Stage.BUILD)
        if self.task.test.how == "suite":
            return self._suite(kernel, place)
        return self._machine(step, kernel, place)

    def _suite(self, kernel: KernelArtifact, place: Path) -> Outcome:
        test = self.task.test
        report = place / "junit.xml"
        done = run(
            [
                *("timeout", f"--kill-after={_KILL_AFTER_S}", f"{test.timeout_s:g}", sys.executable, "-m", "pytest"),
                *(*selection(test.what, self.task.series), "-n", "0", "-p", "no:cacheprovider", f"--junitxml={report}"),
                # How often it is run is the search's to say.
                *("-p", "popcorn.testing.plugin", "--lost-retries", "0"),
                f"--basetemp={place / 'machines'}",
            ],
            cwd=source_root(),
            env=_environment()
            | {KERNEL_VARIABLE: str(kernel.dir), ACCEL_VARIABLE: self._accel(kernel), "POPCORN_SLOW": "1"},
            log=place / "pytest.log",
            check=False,
        )
        if done.returncode == _NO_TESTS:
            raise UserError(f"no test is called {test.what!r}", hint="--test takes what pytest -k takes, or a node id")
        if done.returncode in (_MISUSED, _INTERRUPTED):
            raise UserError(f"pytest cannot run {test.what!r}", hint=f"it says why in {place / 'pytest.log'}")
        if not is_whole(report):
            timed_out = done.returncode == _TIMED_OUT
            title = f"{test.what}: did not end within {test.timeout_s:g} s" if timed_out else "pytest was killed"
            return failure(machines_below(place), Stage.TEST, title, by_host=not timed_out)
        return suite_outcome(read_junit(report), place, internal=done.returncode == _INTERNAL, what=test.what)

    def _machine(self, step: Try, kernel: KernelArtifact, place: Path) -> Outcome:
        """Boot a machine ourselves, for a command or a measurement."""
        from popcorn.machine.assemble import kernel_files
        from popcorn.machine.boot import up
        from popcorn.run import msgbench

        words = plan_words_of(self.task, self.repository, step.commit)
        if self.task.test.how == "metric":
            words = PlanWords(machine=msgbench.MACHINE, policy=msgbench.POLICY, append=words.append, qemu=words.qemu)
        recorded = place / MACHINE
        try:
            plan = self._make_plan(words)
            _, files = kernel_files(plan, series=kernel.series, flavour=kernel.flavour, kernel=kernel)
            machine = up(
                plan,
                files,
                name=f"bisect-{os.getpid()}",
                accel=self._accel(kernel),
                tied=True,
                run_dir=recorded,
                stall_s=_BOOT_STALL_S,
                qemu_options=words.qemu,
            )
        except DiskFullError:
            raise
        except UserError as error:
            if self.task.kind != "parameters":
                raise
            return Outcome("failed", Stage.BUILD, error.message.partition("\n")[0])
        except PopcornError as error:
            return failed_start(error, machines_below(place))
        try:
            if step.until is Stage.BOOT:
                return Outcome("passed", Stage.BOOT)
            if self.task.test.how == "metric":
                return self._measured(machine)
            return self._command(machine, plan, place)
        except (GuestError, MachineLostError, HostError) as error:
            machine.down()
            title = error.message.partition("\n")[0]
            return failure(machines_below(place), Stage.TEST, title, by_host=isinstance(error, HostError))
        finally:
            machine.down()

    def _accel(self, kernel: KernelArtifact) -> Accel:
        """What all machines of this process run on; the first kernel shows whether KVM works."""
        if self._chosen_accel is None:
            auto = self.task.accel == "auto"
            usable = kvm.probe(kernel.bzimage).usable if auto else self.task.accel == "kvm"
            self._chosen_accel = "kvm" if usable else "tcg"
        return self._chosen_accel

    def _command(self, machine: Machine, plan: Plan, place: Path) -> Outcome:
        test = self.task.test
        id = test.kernel if test.kernel is not None else (plan.secondaries or [plan.primary])[0].id
        done = machine.exec(id, ["sh", "-c", test.what], timeout_s=test.timeout_s)
        (place / "stdout").write_bytes(done.stdout)
        (place / "stderr").write_bytes(done.stderr)
        machine.down()
        machines = machines_below(place)
        if done.status == 0 and not any(one.crashed for one in machines):
            return Outcome("passed")
        return failure(machines, Stage.TEST, f"the command ended with status {done.status}", by_host=False)

    def _measured(self, machine: Machine) -> Outcome:
        from popcorn.run.msgbench import measure_messages

        metric = self.task.test.what
        found = [one for one in next(measure_messages(machine, 1, only=metric)) if one.metric == metric]
        if not found or found[0].value is None:
            return Outcome("failed", Stage.TEST, f"{metric} could not be measured")
        return Outcome("passed", Stage.TEST, value=found[0].value)


def selection(text: str, series: str) -> list[str]:
    """pytest's words for a node id or a path, or for an expression on all suites, without kernels of other series."""
    path = text.partition("::")[0]
    if "/" in path:
        return [text]
    if path.endswith(".py"):
        return [f"testsuites/{text}"]
    others = "".join(f" and not {other}" for other in series_names() if other != series)
    return ["testsuites", "-k", f"({text}){others}"]


def suite_outcome(result: SuiteResult, place: Path, *, internal: bool, what: str) -> Outcome:
    """What pytest's report comes to."""
    if result.nr_skipped == result.nr_tests and not result.failed:
        raise UserError(
            f"{what!r} was skipped: {result.skipped_because or 'no test ran'}", hint="name a test that runs"
        )
    if not result.failed and not internal:
        return Outcome("passed")
    stage = Stage.TEST if result.reached else Stage.BOOT
    title = result.failed[0] if result.failed else "pytest failed"
    return failure(machines_below(place), stage, title, by_host=result.by_host or internal)


def _environment() -> dict[str, str]:
    harness = str(Path(__file__).resolve().parents[2])
    search = os.pathsep.join(filter(None, [harness, os.environ.get("PYTHONPATH", "")]))
    return {**os.environ, "PYTHONPATH": search}
