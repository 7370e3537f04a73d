# SPDX-License-Identifier: Apache-2.0
"""What pytest loads: machines and kernels as fixtures, what a test needs as markers, and verdicts.

A test says what it needs::

    @pytest.mark.machine("small", policy="per-core")
    def test_something(machine, kernels, kernel): ...

The marker's words are those of `popcorn up`: a machine by its name or file (beside the test's), ``policy``,
``flavour`` (``debug``), ``series``. Tests that need the same machine share it; a machine that a test broke is booted
anew for the next one. ``scratch=True`` asks for one that tests may do harm to. ``series=EVERY_SERIES`` runs a test
once for each series of kernels, ``series=MIXED`` with secondaries of another than the primary; one whose source is
not at hand is left out, with the reason. ``@pytest.mark.kvm`` wants KVM, and is skipped where it does not work.

With pytest-xdist each worker has a machine of its own (see `turns`).

Where Popcorn is installed this is imported by every pytest: what takes long to import is imported where it is used.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Generator, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import pytest
from _pytest._code.code import ExceptionRepr
from _pytest.skipping import evaluate_skip_marks

from popcorn.testing import singles, turns
from popcorn.testing.evidence import diagnosed, evidence, keep_logs
from popcorn.testing.kernel import Everywhere, Kernel, KernelById, everywhere_in
from popcorn.testing.need import lacking, need_of, nr_cpus_of, require_sense
from popcorn.testing.pool import Pool
from popcorn.testing.repeat import EVIDENCE, RUN_DIRS, Policy, judged, run_item, tear_down_all
from popcorn.testing.singles import SINGLE, Ktap
from popcorn.testing.switches import slow
from popcorn.testing.tell import Verdicts, folder_name, marked

if TYPE_CHECKING:
    from xdist.remote import Producer
    from xdist.workermanage import WorkerController

    from popcorn.machine.machine import Machine
    from popcorn.testing.scheduling import GroupScheduling

_SCHEDULING = pytest.StashKey[TemporaryDirectory[str]]()
_GROUPS = "popcorn_groups"


def _count(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is no number of times")
    return int(text)


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("popcorn", "tests on machines of many kernels")
    group.addoption(
        "--lost-retries",
        type=_count,
        default=1,
        metavar="N",
        help="take a run that the host or QEMU lost again on a fresh machine, N times at most (default: 1)",
    )
    group.addoption(
        "--flaky-repeats",
        type=_count,
        default=0,
        metavar="N",
        help="repeat a test that failed N times, each on a fresh machine, and tell how often it fails (default: 0)",
    )
    group.addoption("--verdicts", metavar="FILE", help="append the verdict of each test to FILE as a line of JSON")
    group.addoption("--failed-logs", metavar="DIR", help="keep consoles and events of failed tests' machines in DIR")
    parser.addini(
        "popcorn_suite", "tests boot machines: count `-n auto` by memory as well as CPUs", type="bool", default=False
    )


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers", "machine(name, *, policy=, flavour=, series=, scratch=, accel=): the machine a test needs"
    )
    config.addinivalue_line("markers", "kvm: the test's machine runs on KVM; skipped where that does not work")
    config.addinivalue_line("markers", "slow: takes minutes; run with POPCORN_SLOW=1")
    if not hasattr(config, "workerinput"):
        config.pluginmanager.register(Verdicts(config, config.getoption("--verdicts")), "popcorn-verdicts")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    marker = metafunc.definition.get_closest_marker("machine")
    if marker is not None:
        require_sense(marker, metafunc.definition.nodeid, metafunc.definition.path.parent)
    series = marker.kwargs.get("series") if marker is not None else None
    if isinstance(series, tuple):
        metafunc.fixturenames.append("series")
        reasons = {one: lacking(one) for one in series}
        skip = {one: [pytest.mark.skip(reason=why)] if why else [] for one, why in reasons.items()}
        metafunc.parametrize("series", [pytest.param(one, marks=skip[one], id=one) for one in series])


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers(config: pytest.Config) -> int | None:
    """For ``-n auto``."""
    if not config.getini("popcorn_suite"):
        return None
    import psutil

    return turns.workers(len(os.sched_getaffinity(0)), psutil.virtual_memory().available)


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: WorkerController) -> None:
    stash = node.config.stash
    if _SCHEDULING not in stash:
        stash[_SCHEDULING] = TemporaryDirectory()
    node.workerinput[_GROUPS] = str(Path(stash[_SCHEDULING].name) / "groups.json")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> GroupScheduling | None:
    # Who asks for another distribution than that of a plain -n gets it.
    if config.getoption("dist") != "load":
        return None
    from popcorn.testing.scheduling import GroupScheduling

    return GroupScheduling(config, log, Path(config.stash[_SCHEDULING].name) / "groups.json")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if not slow():
        for item in items:
            if item.get_closest_marker("slow"):
                item.add_marker(pytest.mark.skip(reason="takes minutes; POPCORN_SLOW=1 runs it"))
    tests = [_turn(item) for item in items]
    if workerinput := getattr(config, "workerinput", None):
        from popcorn.testing.scheduling import write_groups

        names = zip((item.nodeid for item in items), turns.groups(tests), strict=True)
        write_groups(Path(workerinput[_GROUPS]), {nodeid: group for nodeid, group in names if group})
    # Suites that need no machine keep their order.
    if any(test.machine for test in tests):
        items[:] = [items[index] for index in turns.order(tests)]


def _turn(item: pytest.Item) -> turns.Turn:
    need = need_of(item)
    skipped = evaluate_skip_marks(item) is not None
    if need is None:
        return turns.Turn(item.path.stem, None, skipped=skipped)
    return turns.Turn(item.path.stem, str(need), nr_cpus_of(need), skipped)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item, nextitem: pytest.Item | None) -> bool | None:
    option = item.config.option
    ours = item.get_closest_marker("machine") is not None or "ktap" in getattr(item, "fixturenames", ())
    if not ours and not option.verdicts and not option.flaky_repeats:
        return None
    item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
    policy = Policy(option.lost_retries, option.flaky_repeats)
    found = judged(item.nodeid, policy, run=lambda: run_item(item, nextitem), fresh=lambda: tear_down_all(item))
    reports = marked(found.run.reports, found.verdict)
    singles.attach(reports[-1], item, found)
    for report in reports:
        item.ihook.pytest_runtest_logreport(report=report)
    item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
    return True


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.failed and call.excinfo is not None and EVIDENCE in item.stash:
        # Now the machine can still be asked.
        run_dirs = item.stash[RUN_DIRS]
        found = evidence(call.excinfo.value, diagnosed(run_dirs))
        item.stash[EVIDENCE].append(found)
        if found.told and isinstance(report.longrepr, ExceptionRepr):
            # There the terminal has it, and the JUnit report.
            report.longrepr.addsection("the machine", found.told)
        if folder := item.config.getoption("--failed-logs"):
            try:
                keep_logs(run_dirs, Path(folder) / folder_name(item.nodeid))
            except OSError as error:
                # The verdict is known; what goes on beside it must not take it away.
                report.sections.append(("logs", f"not all could be kept: {error}"))
    return report


@pytest.hookimpl(tryfirst=True)
def pytest_report_teststatus(report: pytest.TestReport) -> tuple[str, str, str] | None:
    """One of many results within a test is counted, and shown if it failed."""
    if getattr(report, SINGLE, False) and not report.failed:
        return report.outcome, "", ""
    return None


@pytest.fixture(scope="session")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pool]:
    """The machine of the session's tests."""
    machines = Pool(lambda: tmp_path_factory.mktemp("run"))
    yield machines
    machines.close()


@pytest.fixture
def machine(pool: Pool, request: pytest.FixtureRequest) -> Machine:
    """The machine that the test's marker asks for, up."""
    need = need_of(request.node)
    assert need is not None, "a test with a machine says which: @pytest.mark.machine(…)"
    try:
        return pool.lend(need)
    finally:
        # Of one that did not come up there is something to tell, too.
        if pool.run_dir is not None:
            request.node.stash[RUN_DIRS].append(pool.run_dir)


@pytest.fixture
def kernels(machine: Machine) -> list[int]:
    """The id of every kernel."""
    return [partition.id for partition in machine.plan.partitions]


@pytest.fixture
def kernel(machine: Machine) -> KernelById:
    """A kernel by its id."""

    def by_id(id: int) -> Kernel:
        return Kernel(machine, id)

    return by_id


@pytest.fixture
def everywhere(machine: Machine) -> Everywhere:
    """What a shell script prints in each kernel; it must succeed in all."""
    return everywhere_in(machine)


@pytest.fixture
def ktap(request: pytest.FixtureRequest) -> Ktap:
    """Makes each result that KUnit or kselftest printed one of pytest's."""
    return Ktap(request.node)
