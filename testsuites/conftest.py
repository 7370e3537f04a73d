# SPDX-License-Identifier: Apache-2.0
"""Fixtures for suites on booted machines.

A test says what it needs::

    @pytest.mark.machine("small", policy="per-core")
    def test_something(machine, kernels, kernel): ...

Tests that need the same machine share one boot of it; a machine that a test broke is booted anew for the
next one. With pytest-xdist each worker has a machine of its own (see `turns`). ``scratch=True`` asks for one
that tests may do harm to. ``series=EVERY_SERIES`` runs a test once for each
series of kernels, ``series=MIXED`` with secondaries of another than the primary; one whose source is not at hand is
left out, with the reason.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import astuple, dataclass
from pathlib import Path
from subprocess import DEVNULL, PIPE
from tempfile import TemporaryDirectory, mkdtemp
from typing import TYPE_CHECKING

import psutil
import pytest
import turns
from command import POPCORN

from popcorn.build.series import load_series
from popcorn.build.source import at_hand
from popcorn.config import load_machine
from popcorn.errors import PopcornError
from popcorn.guest.finished import Finished
from popcorn.guest.run import Via
from popcorn.machine.assemble import Choice, for_flavour, kernel_files
from popcorn.machine.machine import Machine
from popcorn.plan import make_plan
from popcorn.snapshot.bringup import up

if TYPE_CHECKING:
    from scheduling import GroupScheduling
    from xdist.remote import Producer
    from xdist.workermanage import WorkerController

_COMMAND_S = 120.0
_SCHEDULING = pytest.StashKey[TemporaryDirectory[str]]()
_GROUPS = "groups.json"


@dataclass(frozen=True)
class Need:
    """What a test wants booted; equal needs share a machine."""

    machine: str
    policy: str
    flavour: str
    scratch: bool
    series: str
    secondary_series: str

    def __str__(self) -> str:
        return " ".join(str(value) for value in astuple(self))


EVERY_SERIES = ("6.12", "3.2")
MIXED = ("6.12+3.2", "3.2+6.12")
"""The primary's and the secondaries'."""


def source_of(series: str) -> Path | None:
    """The source that the user names for a series' kernel, e.g. by POPCORN_SOURCE_3_2."""
    named = os.environ.get(f"POPCORN_SOURCE_{series.replace('.', '_')}")
    return Path(named) if named else None


def lacking(series: str) -> str | None:
    """Why a series, or a mixture, cannot be tried here; None if it can.

    The default's base is fetched when it is not there.
    """
    for one in series.split("+"):
        if one != Choice().series and source_of(one) is None and not at_hand(load_series(one)):
            return (
                f"the source of Linux {one} is not at hand: `popcorn build kernel --series {one} --source TREE` "
                f"keeps it, or POPCORN_SOURCE_{one.replace('.', '_')} names it"
            )
    return None


class Pool:
    """The machine that is up for the tests of this process: one at a time, it takes memory and a core."""

    def __init__(self, new_run_dir: Callable[[], Path]) -> None:
        self._new_run_dir = new_run_dir
        self._need: Need | None = None
        self._machine: Machine | None = None

    def lend(self, need: Need) -> Machine:
        """The machine for a test, booted if it is not up or not whole any more."""
        if self._machine is not None and (need != self._need or not _whole(self._machine)):
            self.close()
        if self._machine is None:
            plan = for_flavour(make_plan(load_machine(need.machine), need.policy), need.flavour)
            other = need.secondary_series
            theirs = None if other == need.series else Choice(other, need.flavour, source_of(other))
            _, files = kernel_files(
                plan, series=need.series, flavour=need.flavour, source=source_of(need.series), secondaries=theirs
            )
            self._machine = up(plan, files, name=f"suite-{os.getpid()}", tied=True, run_dir=self._new_run_dir())
            self._need = need
        return self._machine

    def close(self) -> None:
        """End it."""
        if self._machine is not None:
            self._machine.down()
            self._machine = None


def _whole(machine: Machine) -> bool:
    try:
        return machine.alive() and all(kernel.state == "running" for kernel in machine.ps())
    except PopcornError:
        return False


@dataclass(frozen=True)
class Kernel:
    """One kernel of the machine."""

    machine: Machine
    id: int

    via: Via = "auto"
    """How it is reached."""

    def run(self, argv: Sequence[str], *, timeout_s: float = _COMMAND_S) -> Finished:
        """Run a command in it."""
        return self.machine.exec(self.id, argv, timeout_s=timeout_s, via=self.via)

    def shell(self, script: str) -> str:
        """What a shell script in it prints; it must succeed."""
        done = self.run(["sh", "-c", script])
        assert done.status == 0, f"kernel {self.id}: {script!r} ended with {done.status}: {done.stderr_text}"
        return done.stdout_text


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "machine(name, policy, flavour, scratch, series): the machine a test needs")
    config.addinivalue_line("markers", "slow: takes minutes; run with POPCORN_SLOW=1")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    marker = metafunc.definition.get_closest_marker("machine")
    series = marker.kwargs.get("series") if marker is not None else None
    if isinstance(series, tuple):
        metafunc.fixturenames.append("series")
        reasons = {one: lacking(one) for one in series}
        skip = {one: [pytest.mark.skip(reason=why)] if why else [] for one, why in reasons.items()}
        metafunc.parametrize("series", [pytest.param(one, marks=skip[one], id=one) for one in series])


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """For ``-n auto``."""
    return turns.workers(len(os.sched_getaffinity(0)), psutil.virtual_memory().available)


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: WorkerController) -> None:
    stash = node.config.stash
    if _SCHEDULING not in stash:
        stash[_SCHEDULING] = TemporaryDirectory()
    node.workerinput[_GROUPS] = str(Path(stash[_SCHEDULING].name) / _GROUPS)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> GroupScheduling:
    from scheduling import GroupScheduling

    return GroupScheduling(config, log, Path(config.stash[_SCHEDULING].name) / _GROUPS)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    tests = [_turn(item) for item in items]
    if _GROUPS in getattr(config, "workerinput", {}):
        from scheduling import write_groups

        names = zip((item.nodeid for item in items), turns.groups(tests), strict=True)
        write_groups(Path(config.workerinput[_GROUPS]), {nodeid: group for nodeid, group in names if group})
    items[:] = [items[index] for index in turns.order(tests)]
    if not os.environ.get("POPCORN_SLOW"):
        for item in items:
            if item.get_closest_marker("slow"):
                item.add_marker(pytest.mark.skip(reason="takes minutes; POPCORN_SLOW=1 runs it"))


def _turn(item: pytest.Item) -> turns.Turn:
    need = _need(item)
    if need is None:
        return turns.Turn(item.path.stem, None)
    return turns.Turn(item.path.stem, str(need), load_machine(need.machine).nr_cpus)


def _need(item: pytest.Item) -> Need | None:
    marker = item.get_closest_marker("machine")
    if marker is None:
        return None
    options = {"policy": "per-core", "flavour": "default", "scratch": False, **marker.kwargs}
    options["series"] = item.callspec.params["series"] if "series" in options else Choice().series
    options["series"], _, secondaries = options["series"].partition("+")
    options["secondary_series"] = secondaries or options["series"]
    return Need(marker.args[0] if marker.args else "small", **options)


@pytest.fixture(scope="session")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pool]:
    """The machine of the session's tests."""
    machines = Pool(lambda: tmp_path_factory.mktemp("run"))
    yield machines
    machines.close()


@pytest.fixture
def machine(pool: Pool, request: pytest.FixtureRequest) -> Machine:
    """The machine that the test's marker asks for, up."""
    need = _need(request.node)
    assert need is not None, "a test with a machine says which: @pytest.mark.machine(…)"
    return pool.lend(need)


@pytest.fixture
def kernels(machine: Machine) -> list[int]:
    """The id of every kernel."""
    return [partition.id for partition in machine.plan.partitions]


@pytest.fixture
def kernel(machine: Machine) -> Callable[[int], Kernel]:
    """A kernel by its id."""

    def by_id(id: int) -> Kernel:
        return Kernel(machine, id)

    return by_id


@pytest.fixture
def everywhere(machine: Machine) -> Callable[[str], dict[int, str]]:
    """What a shell script prints in each kernel; it must succeed in all."""

    def run(script: str) -> dict[int, str]:
        answers = machine.exec_all(["sh", "-c", script], timeout_s=_COMMAND_S)
        for id, done in answers.items():
            assert done.status == 0, f"kernel {id}: {script!r} ended with {done.status}: {done.stderr_text}"
        return {id: done.stdout_text for id, done in answers.items()}

    return run


@pytest.fixture
def short_path(tmp_path: Path) -> Iterator[Path]:
    """A short name for the test's folder: below the whole one of a worker's there is no room for a socket."""
    folder = Path(mkdtemp(prefix="popcorn-"))
    link = folder / "t"
    link.symlink_to(tmp_path)
    yield link
    link.unlink()
    folder.rmdir()


@pytest.fixture
def private_dirs(short_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Runs and sockets of the test's own, so that nobody else's machine is in its way; caches are shared."""
    runtime = short_path / "rt"
    runtime.mkdir(mode=0o700)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(runtime))
    monkeypatch.setenv("POPCORN_RUNS", str(short_path / "runs"))
    monkeypatch.setenv("POPCORN_SNAPSHOTS", str(short_path / "snapshots"))
    with _ended_with_us():
        yield short_path


@contextmanager
def _ended_with_us() -> Iterator[None]:
    """End the machines of the test when this process is killed: nobody else knows where they are."""
    script = 'read -r done || exec "$@"'
    argv = ["setsid", "--fork", "sh", "-c", script, "sh", *POPCORN, "down", "--all"]
    with subprocess.Popen(argv, stdin=PIPE, stdout=DEVNULL, stderr=DEVNULL, text=True) as watcher:
        yield
        watcher.communicate("done\n")
