# SPDX-License-Identifier: Apache-2.0
"""NAS benchmarks with MPI: how they are started, counted and judged, without kernels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pytest
from experiment_fakes import FakeBooted, Stage

from popcorn.config import load_machine
from popcorn.errors import GuestError
from popcorn.experiment.launch import Ended, Process
from popcorn.experiment.mpi import Mpi, mpiexec_words
from popcorn.experiment.placement import too_large
from popcorn.experiment.protocols import Kernel, Setting, Share
from popcorn.experiment.systems import SYSTEMS
from popcorn.experiment.workloads import npb
from popcorn.experiment.workloads.npb_mpi import NpbMpi, first_answer
from popcorn.guest.finished import Finished

_ANSWER = '{"benchmark": "cg", "class": "S", "ranks": 2, "time_s": 0.5, "mop_s": 3.0, "verified": %s}\n'
_BANNER = "\n===\n=   BAD TERMINATION OF ONE OF YOUR APPLICATION PROCESSES\n===\n"


class Recording(FakeBooted):
    """Keeps what is run in it, and answers with a status."""

    def __init__(self, count: int, status: int = 0) -> None:
        super().__init__(_kernels(count), Stage())
        self.status = status
        self.ran: list[dict[int, Sequence[str]]] = []

    def run(self, commands: Mapping[int, Sequence[str]], timeout_s: float) -> dict[int, Finished]:
        self.ran.append(dict(commands))
        return {id: Finished(tuple(argv), self.status, b"", b"no room\n") for id, argv in commands.items()}


def _kernels(count: int, cpus: int = 1) -> list[Kernel]:
    return [Kernel(id, cpus, 1 << 30, f"10.80.0.{id + 1}") for id in range(count)]


def _ended(stdout: str, status: int) -> Ended:
    done = Finished(("mpiexec",), status, stdout.encode(), b"")
    return Ended((Process(0, 0, done),), (), b"", 0.0)


def test_a_process_is_started_on_each_core_of_several_kernels() -> None:
    shares = [Share(kernel, 2) for kernel in _kernels(2, cpus=2)]
    words = mpiexec_words(shares, "pcn0")
    assert words[words.index("-hosts") + 1] == "10.80.0.1:2,10.80.0.2:2"
    assert words[words.index("-launcher") + 1] == "ssh"
    assert words[words.index("UCX_NET_DEVICES") + 1] == "pcn0"
    command = Mpi(FakeBooted(_kernels(2), Stage())).command(shares, ["npb-mpi", "is", "S"])
    assert command[-5:] == ["-n", "4", "npb-mpi", "is", "S"]


def test_processes_in_one_kernel_need_neither_ssh_nor_tcp() -> None:
    words = mpiexec_words([Share(_kernels(1, cpus=4)[0], 4)], "pcn0")
    assert words[words.index("-launcher") + 1] == "fork"
    assert "self,sm" in words
    assert words[words.index("HWLOC_COMPONENTS") + 1] == "no_os,stop"
    booted = Recording(1)
    Mpi(booted).prepare(booted.kernels)
    assert booted.ran == []


def test_kernels_are_made_to_trust_each_other_once() -> None:
    booted = Recording(3)
    mpi = Mpi.of(booted)
    mpi.prepare(booted.kernels)
    done = len(booted.ran)
    assert done > 0
    assert all(set(commands) == {0, 1, 2} for commands in booted.ran)
    Mpi.of(booted).prepare(booted.kernels[:2])
    assert len(booted.ran) == done


def test_kernels_that_come_later_are_known_to_the_earlier_ones() -> None:
    booted = Recording(3)
    Mpi.of(booted).prepare(booted.kernels[:2])
    Mpi.of(booted).prepare(booted.kernels)
    first = [commands[0] for commands in booted.ran if "10.80.0.3" in commands[0][-1]]
    assert len(first) == 1


def test_a_kernel_that_cannot_be_prepared_is_named() -> None:
    booted = Recording(2, status=1)
    with pytest.raises(GuestError, match="kernel 0 cannot be made ready for MPI: no room"):
        Mpi(booted).prepare(booted.kernels)


def test_the_answer_is_the_benchmarks_and_not_what_mpiexec_says() -> None:
    fine = npb.judge(first_answer(_ended(_ANSWER % "true", 0)), "cg", "S", 2)
    assert (fine.status, fine.measurements[0].value) == ("ok", 0.5)
    void = npb.judge(first_answer(_ended(_ANSWER % "false" + _BANNER, 1)), "cg", "S", 2)
    assert void.status == "void"
    assert not void.measurements
    failed = npb.judge(first_answer(_ended(_BANNER, 255)), "cg", "S", 2)
    assert failed.status in ("failed", "killed")


def test_fewer_processes_than_cores_are_void() -> None:
    outcome = npb.judge(first_answer(_ended(_ANSWER % "true", 0)), "cg", "S", 4, "processes")
    assert outcome.status == "void"
    assert "2 processes instead of 4" in outcome.reason


def test_a_benchmark_that_is_divided_fits_where_the_whole_does_not() -> None:
    popcorn = SYSTEMS["popcorn"](Setting("x", load_machine("small"), "6.12", 8))
    ft = NpbMpi("ft", "A")
    assert "takes" in too_large(popcorn, ft, 1)
    assert too_large(popcorn, ft, 4) == ""
