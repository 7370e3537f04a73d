# SPDX-License-Identifier: Apache-2.0
"""The steps of a CI job. Each is told by what it found; what the host lost is tried again."""

from __future__ import annotations

import importlib.util
import os
import sys
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import click

from popcorn.ci.job import Job
from popcorn.ci.record import FAILED, JUNIT, RUNS, VERDICTS_FILE
from popcorn.errors import HostError, PopcornError, SeriesError, UserError
from popcorn.experiment.record import RECORD_FILE as EXPERIMENT_FILE
from popcorn.image.recipe import Role
from popcorn.junit import is_whole
from popcorn.process import Completed, run, shown
from popcorn.progress import note
from popcorn.run.results import RESULTS_FILE, read_trials
from popcorn.testing.evidence import evidence
from popcorn.testing.need import source_variable
from popcorn.testing.tell import read_verdicts
from popcorn.testing.verdict import Outcome, TestVerdict

Found = tuple[Outcome, str]
"""What a step came to, and that in a line."""
# The status of what a signal ended.
_KILLED = range(-64, 0)
_ROLES: tuple[Role, ...] = ("primary", "secondary")
_NO_TESTS, _MISUSED, _INTERNAL, _INTERRUPTED, _FAILED = 5, 4, 3, 2, 1


def build(job: Job) -> Found:
    """Build kernel, kexec and images."""
    from popcorn.build.kernel import KERNEL_VARIABLE, build_kernel
    from popcorn.build.kexec import build_kexec
    from popcorn.image.build import build_image

    wanted = job.wanted
    for attempt in range(wanted.retries + 1):
        try:
            kernel, kexec = build_kernel(wanted.series, wanted.flavour, wanted.source), build_kexec()
            for role in _ROLES:
                build_image(role, kernel=kernel, kexec=kexec)
            if wanted.source is not None:
                job.environment[KERNEL_VARIABLE] = str(kernel.dir)
                job.environment[source_variable(wanted.series)] = str(wanted.source.resolve())
            return Outcome.PASSED, kernel.release
        except SeriesError as error:
            _log(job, "build.log", f"{error}\n{error.hint}\n")
            return Outcome.FAILED, str(error).partition("\n")[0]
        except UserError:
            raise
        except PopcornError as error:
            found = evidence(error, [])
            _log(job, "build.log", f"{error}\n{error.hint}\n")
            if not found.lost:
                return Outcome.FAILED, found.title
            note(f"the build was lost, attempt {attempt + 1}: {found.title}")
    return Outcome.LOST, found.title


def tests(job: Job) -> Found:
    """Run the suites."""
    folder, wanted = job.folder, job.wanted
    words = ["-p", "popcorn.testing.plugin", "-p", "no:cacheprovider", *_parallel(wanted.workers)]
    words += ["-o", "popcorn_suite=true", f"--lost-retries={wanted.retries}", f"--flaky-repeats={wanted.repeats}"]
    words += [f"--verdicts={folder / VERDICTS_FILE}", f"--failed-logs={folder / FAILED}"]
    words += [f"--junitxml={folder / JUNIT / 'tests.xml'}"]
    done = _run(job, [sys.executable, "-P", "-m", "pytest", *job.selection, *words], "tests.log", cwd=job.cwd)
    found = read_verdicts(folder / VERDICTS_FILE)
    log = folder / "tests.log"
    if done.returncode == _NO_TESTS:
        raise UserError(f"there are no such tests: {shown(job.selection)}", hint=f"it is told in {log}")
    outcome = worst([one.outcome for one in found])
    if done.returncode in (_MISUSED, _INTERRUPTED):
        if outcome is Outcome.FAILED:
            return outcome, f"{counted(found)}; and pytest could not run all tests, see tests.log"
        raise UserError("pytest cannot run the tests", hint=f"it says why in {log}")
    if done.returncode < 0 or done.returncode == _INTERNAL:
        return Outcome.LOST, f"pytest itself ended with status {done.returncode}; by then: {counted(found)}"
    if not is_whole(folder / JUNIT / "tests.xml"):
        return Outcome.LOST, f"pytest ended without a report; by then: {counted(found)}"
    if done.returncode == _FAILED and outcome is Outcome.PASSED:
        return Outcome.FAILED, f"pytest failed, though no test did: {log}"
    return outcome, counted(found)


def experiment(job: Job, name: str) -> tuple[Outcome, str, Path | None]:
    """Run an experiment; what a machine's end interrupted goes on. Also the folder of its run, if there is one."""
    runs = job.folder / RUNS / Path(name).stem
    argv = [sys.executable, "-P", "-m", "popcorn", "run"]
    env = {**os.environ, "POPCORN_RUNS": str(runs)}
    log = f"experiment-{Path(name).stem}.log"
    for _ in range(job.wanted.retries + 1):
        run_dir = _run_below(runs)
        words = ["--resume", str(run_dir)] if run_dir else [name, "--series", job.wanted.series]
        done = _run(job, [*argv, *words], log, env=env)
        if done.returncode == UserError.exit_status:
            raise UserError(f"the experiment {name} cannot be run", hint=f"why is told in {job.folder / log}")
        if done.returncode not in (HostError.exit_status, *_KILLED):
            break
    run_dir = _run_below(runs)
    if done.returncode == 0:
        return Outcome.PASSED, "", run_dir
    if done.returncode == 1 and run_dir is not None:
        return (*_without_value(run_dir), run_dir)
    return Outcome.LOST, f"`popcorn run` ended with status {done.returncode}", run_dir


def worst(outcomes: list[Outcome]) -> Outcome:
    """What they come to together."""
    order = (Outcome.FAILED, Outcome.LOST, Outcome.FLAKY)
    return next((one for one in order if one in outcomes), Outcome.PASSED)


def counted(found: list[TestVerdict]) -> str:
    """How many tests came to what."""
    counts = Counter(one.outcome for one in found)
    return ", ".join(f"{counts[outcome]} {outcome}" for outcome in Outcome if counts[outcome]) or "no test ended"


def _without_value(run_dir: Path) -> Found:
    """Why trials have no value: what somebody else ended says nothing of the kernel."""
    lost = [row for row, _ in read_trials(run_dir) if row.kind == "measured" and row.status != "ok"]
    own = [row for row in lost if row.status != "killed"]
    if not lost:
        return Outcome.LOST, "`popcorn run` ended with status 1, though no trial is without a value"
    if not own:
        return Outcome.LOST, f"{len(lost)} trials were killed"
    first = own[0]
    where = f"{first.workload} on {first.cores} cores of {first.system}"
    return Outcome.FAILED, f"{len(own)} trials have no value; the first is {where}: {first.status}: {first.reason}"


def _run_below(runs: Path) -> Path | None:
    found = sorted(path.parent for path in runs.glob(f"*/{EXPERIMENT_FILE}") if not path.parent.is_symlink())
    found = [path for path in found if (path / RESULTS_FILE).is_file()]
    return found[-1] if found else None


def _run(
    job: Job, argv: list[str], log: str, *, cwd: Path | None = None, env: Mapping[str, str] = os.environ
) -> Completed:
    """Run a program; its output is shown, and kept."""
    harness = str(Path(__file__).resolve().parents[2])
    search = os.pathsep.join(filter(None, [harness, env.get("PYTHONPATH", "")]))
    environment = {**env, **job.environment, "PYTHONPATH": search}
    return run(argv, log=job.folder / log, on_line=_show, check=False, cwd=cwd, env=environment)


def _show(line: str) -> None:
    click.echo(line, err=True)


def _log(job: Job, name: str, text: str) -> None:
    with (job.folder / name).open("a", encoding="utf-8") as out:
        out.write(text)


def _parallel(workers: str) -> list[str]:
    if importlib.util.find_spec("xdist") is None:
        if workers not in ("auto", "0"):
            raise UserError("pytest-xdist is not installed", hint="without it tests run one after the other")
        return []
    return ["-n", workers]
