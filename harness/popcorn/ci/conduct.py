# SPDX-License-Identifier: Apache-2.0
"""Taking the steps, and writing down what was found as soon as it is: a job that is stopped leaves that."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable
from pathlib import Path

from popcorn import __version__, junit
from popcorn.ci import steps
from popcorn.ci.found import Found
from popcorn.ci.job import Job
from popcorn.ci.record import COMPARE, JUNIT, SUMMARY_FILE, TESTS, Record, Step
from popcorn.ci.summary import render
from popcorn.ending import signal_of, undisturbed
from popcorn.errors import PopcornError, UserError
from popcorn.files import write_atomic
from popcorn.gate.compare import Verdict, compare
from popcorn.gate.measured import read_measured
from popcorn.gate.tell import conclusion
from popcorn.progress import note
from popcorn.run.manifest import code_commit, typed_words
from popcorn.testing.partial import case, partial_cases
from popcorn.testing.verdict import Outcome


class Conductor:
    """Takes the steps of a job."""

    def __init__(self, job: Job) -> None:
        record = Record(popcorn=__version__, commit=code_commit(), typed=typed_words(sys.argv), begun=time.time())
        self.found = Found(job, record)
        self._running = ""
        self._began = 0.0

    def __call__(self) -> Found:
        """Take all steps.

        Raises:
            UserError: a step cannot be done as it was asked for.
            KeyboardInterrupt: somebody stopped it; what had ended is written down.
        """
        job = self.found.job
        job.folder.mkdir(parents=True, exist_ok=True)
        self._save()
        try:
            built = self._step("build", lambda: steps.build(job), log="build.log")
            if job.wanted.tests:
                self._step(TESTS, lambda: steps.tests(job), log="tests.log", after=built)
            for name in job.wanted.experiments:
                self._experiment(name, after=built)
        except BaseException as error:
            with undisturbed():
                self._stopped(error)
            raise
        self._end()
        return self.found

    def _step(
        self, name: str, take: Callable[[], steps.Found], *, log: str = "", after: Outcome = Outcome.PASSED
    ) -> Outcome:
        if after is not Outcome.PASSED:
            self._add(Step(name=name, outcome=Outcome.SKIPPED, elapsed_s=0.0, detail="it was not built"))
            return Outcome.SKIPPED
        note(f"ci: {name}")
        self._running, self._began = name, time.monotonic()
        outcome, detail = take()
        self._running = ""
        there = (self.found.job.folder / log).is_file()
        elapsed_s = time.monotonic() - self._began
        self._add(Step(name=name, outcome=outcome, elapsed_s=elapsed_s, detail=detail, log=log if there else ""))
        return outcome

    def _experiment(self, name: str, *, after: Outcome) -> None:
        job, stem = self.found.job, Path(name).stem
        measured: list[Path] = []

        def take() -> steps.Found:
            outcome, detail, run_dir = steps.experiment(job, name)
            measured.extend([run_dir] if run_dir else [])
            return outcome, detail

        self._step(f"experiment {stem}", take, log=f"experiment-{stem}.log", after=after)
        for run_dir in measured:
            known = {**self.found.record.experiments, stem: str(run_dir.relative_to(job.folder))}
            self.found.record = self.found.record.model_copy(update={"experiments": known})
            self._compare(stem, run_dir)
            self._save()

    def _compare(self, stem: str, run_dir: Path) -> None:
        job = self.found.job
        if job.baseline is None or job.wanted.baseline is None:
            return
        began = time.monotonic()
        outcome, detail = Outcome.SKIPPED, "the baseline has no such experiment"
        if before := job.baseline.experiments.get(stem):
            try:
                base, new = read_measured(job.wanted.baseline / before), read_measured(run_dir)
                found = compare(base, new, job.thresholds)
                found.require_common()
                self.found.comparisons[stem] = found
                outcome, detail = Outcome.FAILED if found.regressions else Outcome.PASSED, conclusion(found)
            except UserError as error:
                detail = str(error)
        self._add(Step(name=f"{COMPARE}{stem}", outcome=outcome, elapsed_s=time.monotonic() - began, detail=detail))

    def _add(self, step: Step) -> None:
        record = self.found.record
        self.found.record = record.model_copy(update={"steps": (*record.steps, step)})
        self._save()

    def _end(self) -> None:
        update = {"ended": time.time(), "status": self.found.status()}
        self.found.record = self.found.record.model_copy(update=update)
        self._save()

    def _stopped(self, error: BaseException) -> None:
        if isinstance(error, KeyboardInterrupt):
            cause = signal_of(error).name
        else:
            cause = str(error).partition("\n")[0] or type(error).__name__
        where = f" during {self._running}" if self._running else ""
        update: dict[str, object] = {"ended": time.time(), "stopped": f"{cause}{where}"}
        if self._running:
            known = f"by then: {steps.counted(self.found.verdicts)}" if self._running == TESTS else ""
            detail = "; ".join(filter(None, ["stopped before its end", known]))
            cut = Step(
                name=self._running, outcome=Outcome.SKIPPED, elapsed_s=time.monotonic() - self._began, detail=detail
            )
            update["steps"] = (*self.found.record.steps, cut)
        self.found.record = self.found.record.model_copy(update=update)
        # On a full disk there is nothing to be written down, and the error itself tells more.
        with contextlib.suppress(OSError, PopcornError):
            self._save()

    def _save(self) -> None:
        folder = self.found.job.folder
        self.found.record.save(folder)
        write_atomic(folder / SUMMARY_FILE, render(self.found))
        junit.write(folder / JUNIT / "ci.xml", "popcorn ci", _cases(self.found))
        report = folder / JUNIT / "tests.xml"
        ended = next((step for step in self.found.record.steps if step.name == TESTS), None)
        # A pytest that was killed wrote none, or a part of one.
        if ended is not None and (self.found.verdicts or self.found.unended) and not junit.is_whole(report):
            why = self.found.record.stopped or ended.detail
            cases = partial_cases(self.found.verdicts, self.found.unended, why)
            junit.write(report, "tests, partial", cases)


def _cases(found: Found) -> list[junit.Case]:
    cases = [case(step.name, step.detail, step.outcome, step.elapsed_s) for step in found.record.steps]
    for stem, comparison in found.comparisons.items():
        for one in comparison.findings:
            if one.verdict is not Verdict.TOLD:
                said = f"{one.verdict}: {one.base} before, {one.new} now {one.unit}. {one.why}"
                cases.append(junit.Case(f"{stem}: {one.point}", said, not one.verdict.regression, 0.0))
    if found.record.stopped:
        cases.append(junit.Case("not stopped", f"partial results: {found.record.stopped}", False, 0.0))
    return cases
