# SPDX-License-Identifier: Apache-2.0
"""The folder of an experiment's run.

experiment.toml   the description, as it was read
experiment.json   what was asked for and with what: `RunRecord`
results.sqlite    trials and measurements, see `popcorn.run.schema`
raw/              what each trial said
boots/            a folder for each boot: manifest, plan, consoles, events
report.html, figures/   written by `popcorn report`
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import filelock
from pydantic import BaseModel, ConfigDict, ValidationError

from popcorn import __version__
from popcorn.config import Machine
from popcorn.dirs import runs_dir
from popcorn.errors import UserError
from popcorn.experiment.description import Source
from popcorn.experiment.executor import BootDone, TrialDone
from popcorn.experiment.ready import Left, Ready, Wanted
from popcorn.experiment.schedule import Trial
from popcorn.files import write_atomic
from popcorn.machine.qemu import Accel
from popcorn.run.manifest import Host, code_commit, describe_host
from popcorn.run.results import RESULTS_FILE, Kind, Results, TrialRow, read_trials

RECORD_FILE = "experiment.json"
DESCRIPTION_FILE = "experiment.toml"
BOOTS, RAW = "boots", "raw"
_LOCK_FILE = ".lock"
_VERSION = 1
_NAMED = 20


class WorkloadFacts(BaseModel):
    """What a report must know of a workload."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    group: str
    parameter: int | None
    metric: str
    unit: str
    less_is_better: bool


class RunRecord(BaseModel):
    """What a run was asked for; it is not changed afterwards. Times are Unix time."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    version: int = _VERSION
    popcorn: str
    commit: str
    typed: tuple[str, ...]
    begun: float
    host: Host
    accel: Accel
    name: str
    """The experiment's, as it was asked for."""
    wanted: dict[str, Any]
    machine: Machine
    systems: dict[str, str]
    """Name to title."""
    workloads: tuple[WorkloadFacts, ...]
    left_out: tuple[Left, ...]
    trials: int
    cores: tuple[int, ...]
    iterations: int

    @property
    def command(self) -> str:
        """What a person types to have the same again."""
        found = Wanted(**self.wanted)
        words = ["popcorn", "run", self.name]
        for option, value in (
            ("--machine", found.machine),
            ("--systems", ",".join(found.systems)),
            ("--cores", ",".join(map(str, found.cores))),
            ("--iterations", found.iterations),
            ("--boots", found.boots),
            ("--class", found.size),
            ("--npb-source", found.npb_source),
            ("--series", found.series),
            ("--seed", found.seed),
        ):
            if value:
                words += [option, str(value)]
        if found.instructions:
            words.append("--instructions")
        return " ".join([*words, "--accel", self.accel])


def begin_record(ready: Ready, accel: Accel, typed: Sequence[str], run_dir: Path) -> RunRecord:
    """Write down what a new run is asked for."""
    record = RunRecord(
        popcorn=__version__,
        commit=code_commit(),
        typed=tuple(typed),
        begun=time.time(),
        host=describe_host(),
        accel=accel,
        name=ready.source.name,
        wanted=asdict(ready.wanted),
        machine=ready.setting.machine,
        systems={name: one.title for name, one in ready.systems.items()},
        workloads=tuple(
            WorkloadFacts(**{field: getattr(one, field) for field in WorkloadFacts.model_fields})
            for one in ready.workloads.values()
        ),
        left_out=tuple(ready.left_out),
        trials=ready.trials,
        cores=ready.experiment.cores,
        iterations=ready.experiment.iterations,
    )
    for folder in (BOOTS, RAW):
        (run_dir / folder).mkdir(parents=True, exist_ok=True)
    write_atomic(run_dir / DESCRIPTION_FILE, ready.source.text)
    write_atomic(run_dir / RECORD_FILE, record.model_dump_json(indent=1) + "\n")
    return record


def read_record(run_dir: Path) -> tuple[RunRecord, Source, Wanted]:
    """What a run was asked for, and its description.

    Raises:
        UserError: this is no experiment's run, or this version cannot read it.
    """
    path = run_dir / RECORD_FILE
    try:
        record = RunRecord.model_validate_json(path.read_text(encoding="utf-8"))
        if record.version != _VERSION:
            raise UserError(f"{path} has version {record.version}; this Popcorn reads version {_VERSION}")
        wanted = Wanted(**{name: _as_tuple(value) for name, value in record.wanted.items()})
        text = (run_dir / DESCRIPTION_FILE).read_text(encoding="utf-8")
    except FileNotFoundError as error:
        if path.is_file():
            raise UserError(
                f"{run_dir} has lost its {Path(error.filename).name}",
                hint="`popcorn results` reads the measurements without it; a copy of the description serves as well",
            ) from None
        raise UserError(f"{run_dir} is no run of an experiment", hint="`popcorn run` makes one") from None
    except (OSError, UnicodeDecodeError, ValidationError, TypeError) as error:
        raise UserError(
            f"cannot read {path}: {str(error).splitlines()[0]}",
            hint="it is damaged, or of another Popcorn: run it anew",
        ) from error
    return record, Source(record.name, str(run_dir / DESCRIPTION_FILE), text), wanted


def _as_tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def find_run(name_or_path: str) -> Path:
    """The folder of a run.

    Raises:
        UserError: there is none, or it is a folder of several.
    """
    for path in (Path(name_or_path), runs_dir() / name_or_path):
        if path.is_dir():
            _require_one(path)
            return path.resolve()
    raise UserError(f"there is no run {name_or_path!r}", hint=f"runs are folders in {runs_dir()}")


def _require_one(path: Path) -> None:
    """Who names what `popcorn ci` left, or where runs are kept, has not said which run."""
    if any((path / name).exists() for name in (RECORD_FILE, RESULTS_FILE)):
        return
    runs = sorted(
        {found.parent.resolve() for depth in ("*", "*/*/*") for found in path.glob(f"{depth}/{RESULTS_FILE}")},
        reverse=True,
    )
    if runs:
        named = "\n".join(f"  {one}" for one in runs[:_NAMED])
        more = f"\n  and {len(runs) - _NAMED} more" if len(runs) > _NAMED else ""
        raise UserError(
            f"{path} holds {len(runs)} run{'s' * (len(runs) > 1)} and is none itself", hint=f"name one:\n{named}{more}"
        )


@contextmanager
def locked(run_dir: Path) -> Iterator[None]:
    """One process at a time takes a run's trials.

    Raises:
        UserError: another one does.
    """
    lock = filelock.FileLock(run_dir / _LOCK_FILE)
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout:
        raise UserError(f"another popcorn is at work on {run_dir}", hint="wait for it, or end it") from None
    try:
        yield
    finally:
        lock.release()


class Recorder:
    """Writes what happens into the run's folder, each thing at once."""

    def __init__(self, run_dir: Path, results: Results) -> None:
        self._run_dir = run_dir
        self._results = results

    def boot(self, event: BootDone) -> None:
        """A system came up."""
        event.manifest.save(self._run_dir / BOOTS / event.folder)

    def trial(self, event: TrialDone) -> None:
        """A trial ended: its raw output first, so that no row points at nothing."""
        trial = event.trial
        name = f"{trial.system}-{trial.workload}-{trial.cores}-{trial.iteration}"
        if event.kind == "warm-up":
            name = f"warm-up-{event.folder}-{trial.workload}-{trial.cores}"
        elif event.kind == "counted":
            name = f"counted-{name}"
        raw = f"{RAW}/{name}.txt"
        write_atomic(self._run_dir / raw, event.outcome.raw)
        row = TrialRow(
            system=trial.system,
            workload=trial.workload,
            cores=trial.cores,
            iteration=trial.iteration,
            kind=event.kind,
            status=event.outcome.status,
            reason=event.outcome.reason,
            boot=f"{BOOTS}/{event.folder}",
            block=event.job.block,
            manifest=f"{BOOTS}/{event.folder}/manifest.json",
            raw=raw,
            host=event.host,
            begun=event.begun,
            ended=event.ended,
        )
        self._results.add_trial(row, event.outcome.measurements)


def done_trials(run_dir: Path) -> list[tuple[Kind, Trial]]:
    """The trials of a run that were recorded, however they ended."""
    return [
        (row.kind, Trial(row.system, row.workload, row.cores, row.iteration))
        for row, _ in read_trials(run_dir)
        if row.kind != "warm-up"
    ]
