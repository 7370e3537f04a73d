# SPDX-License-Identifier: Apache-2.0
"""Programs that experiments bring along: MPI from a secondary kernel to the primary, and a web server that a machine
beside them asks. One boot for all of it."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from little import TWO_CORES

from popcorn.config.machine import Machine
from popcorn.experiment.placement import place
from popcorn.experiment.programs import files_of
from popcorn.experiment.protocols import Booted, Outcome, Setting, Workload
from popcorn.experiment.systems.popcorn import per_core
from popcorn.experiment.workloads.npb_mpi import NpbMpi
from popcorn.experiment.workloads.web import Web

_REQUESTS, _AT_ONCE = 300, 30


@pytest.fixture(scope="module")
def booted() -> Iterator[Booted]:
    """A secondary and a primary of one core each, and a client."""
    machine = Machine.model_validate(tomllib.loads(TWO_CORES))
    system = per_core(Setting("programs", machine, "6.12", 2, client=True))
    # What a killed test leaves is in the folder's name; machines are tied to this process.
    with TemporaryDirectory(prefix="popcorn-") as folder, pytest.MonkeyPatch.context() as patch:
        runtime = Path(folder) / "rt"
        runtime.mkdir(mode=0o700)
        patch.setenv("XDG_RUNTIME_DIR", str(runtime))
        patch.setenv("POPCORN_RUNS", str(Path(folder) / "runs"))
        into = Path(folder) / "boot"
        with system.boot(system.state(2, False), "tcg", files_of(["mpi", "web"]), into) as running:
            yield running


def _measured(workload: Workload, booted: Booted, cores: int) -> tuple[Outcome, dict[str, float]]:
    workload.prepare(booted, [cores])
    outcome = workload.measure(booted, place(booted.kernels, cores), 120)
    return outcome, {one.metric: one.value or 0.0 for one in outcome.measurements}


@pytest.mark.parametrize("benchmark", ["is", "cg", "ft"])
def test_processes_in_two_kernels_compute_what_the_specification_says(booted: Booted, benchmark: str) -> None:
    outcome, values = _measured(NpbMpi(benchmark, "S"), booted, 2)  # type: ignore[arg-type]
    assert outcome.status == "ok", outcome.reason
    assert values["time"] > 0
    # They had nothing but the switch to talk over: the least of them is IS's half of 2^16 keys, ten times.
    assert values["count.switch_bytes"] > 2**16 * 4 / 2 * 10 / 2


def test_a_secondary_kernel_serves_a_client_outside(booted: Booted) -> None:
    outcome, values = _measured(Web(_REQUESTS, _AT_ONCE), booted, 1)
    assert outcome.status == "ok", outcome.reason
    assert 0 < values["response.p0"] <= values["response.p50"] <= values["response.p99"]
    # Its answers left over the switch.
    assert values["count.switch_bytes"] > _REQUESTS * 612
