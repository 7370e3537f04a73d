# SPDX-License-Identifier: Apache-2.0
"""``popcorn run``"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from popcorn.experiment.ready import Ready, Wanted
    from popcorn.machine.qemu import Accel


@click.command()
@click.argument("experiment", required=False, metavar="[EXPERIMENT]")
@click.option("--resume", metavar="RUN", help="Go on with a run that was stopped.")
@click.option("--dry-run", is_flag=True, help="List the trials and about how long they will take.")
@click.option("--list", "list_all", is_flag=True, help="List the experiments that come with Popcorn.")
@click.option("--machine", metavar="M", help="paper, small, or a TOML file.")
@click.option("--systems", metavar="NAME,…", help="Only these systems.")
@click.option("--cores", metavar="N,…", help="Only these core counts.")
@click.option("--iterations", type=click.IntRange(min=1), help="Of each point.")
@click.option("--boots", type=click.IntRange(min=1), help="Of each system.")
@click.option(
    "--class",
    "size",
    type=click.Choice(["S", "W", "A", "B"]),
    help="Class of the NAS benchmarks; for web servers, how many requests.",
)
@click.option(
    "--npb-source",
    metavar="TREE",
    type=click.Path(path_type=Path, file_okay=False),
    help="Your own NPB instead of the one that comes with Popcorn.",
)
@click.option("--instructions", is_flag=True, default=None, help="Count instructions, too, in boots of their own.")
@click.option("--seed", type=int, default=None, help="Of the random order.  [default: 1]")
@click.option("--series", metavar="SERIES", help="Which kernel series.  [default: 6.12]")
@click.option("--accel", type=click.Choice(["auto", "kvm", "tcg"]), help="For all systems alike.  [default: auto]")
@click.option("--scheduler", metavar="ADDRESS", help="Spread the boots over the workers of a Dask scheduler.")
@click.option("--name", metavar="NAME", help="What the machines' names begin with.  [default: run]")
@click.option("--json", "as_json", is_flag=True, help="Print the trials of a dry run, or the result, as JSON.")
def run(
    experiment: str | None,
    resume: str | None,
    dry_run: bool,
    list_all: bool,
    systems: str | None,
    cores: str | None,
    accel: Any,
    scheduler: str | None,
    as_json: bool,
    **options: Any,
) -> None:
    """Measure systems against each other and write a report.

    EXPERIMENT is one of those that come with Popcorn (--list), or a TOML file. Each trial is
    recorded when it has ended; a run that was stopped goes on with --resume. Times
    compare only within one run on one host.
    """
    from popcorn.errors import UserError

    given = [name for name, value in (*options.items(), ("systems", systems), ("cores", cores)) if value is not None]
    if list_all:
        _list()
        return
    if resume is not None:
        if experiment is not None or given or accel is not None:
            raise UserError(
                "--resume goes on with a run as it was begun; it takes no experiment and no other options",
                hint="`popcorn run EXPERIMENT` begins a new one",
            )
        _resume(resume, dry_run, scheduler, as_json)
        return
    if experiment is None:
        raise UserError(
            "which experiment?", hint="`popcorn run --list` lists them; `popcorn run quick` is the shortest"
        )
    from popcorn.experiment.description import find_description
    from popcorn.experiment.ready import get_ready

    ready = get_ready(find_description(experiment), _wanted(systems, cores, options))
    if dry_run:
        _tell_plan(ready, ready.jobs, as_json)
        return
    _begin(ready, accel or "auto", scheduler, as_json)


def _list() -> None:
    from popcorn.cli.table import print_table
    from popcorn.experiment.description import experiment_names, find_description, read_experiment

    found = {name: read_experiment(find_description(name)) for name in experiment_names()}
    rows = [
        [name, one.paper or "-", ",".join(one.systems), str(one.iterations), one.title] for name, one in found.items()
    ]
    print_table(["EXPERIMENT", "PAPER", "SYSTEMS", "ITERATIONS", "TITLE"], rows, frozenset({"ITERATIONS"}))


def _wanted(systems: str | None, cores: str | None, options: dict[str, Any]) -> Wanted:
    from popcorn.errors import UserError
    from popcorn.experiment.ready import Wanted

    for option, value in (("--systems", systems), ("--cores", cores)):
        if value is not None and not value.replace(",", " ").strip():
            raise UserError(f"{option} names nothing", hint="leave it out for those of the experiment")
    counts: list[int] = []
    for word in (cores or "").split(","):
        if not word.strip():
            continue
        if not word.strip().isdecimal() or int(word) < 1:
            raise UserError(f"--cores {cores}: {word.strip()!r} is no number of cores", hint="write e.g. --cores 1,2,4")
        counts.append(int(word))
    names = tuple(word.strip() for word in (systems or "").split(",") if word.strip())
    given = {name: value for name, value in options.items() if value is not None}
    if (tree := given.get("npb_source")) is not None:
        # A run that is resumed elsewhere finds it, too.
        given["npb_source"] = str(tree.resolve())
    return Wanted(systems=tuple(dict.fromkeys(names)), cores=tuple(counts), **given)


def _begin(ready: Ready, accel: Any, scheduler: str | None, as_json: bool) -> None:
    import sys

    from popcorn.experiment.record import begin_record
    from popcorn.machine.launch import new_run_dir
    from popcorn.machine.limits import require_room_to_record
    from popcorn.run.manifest import typed_words

    if scheduler is None:
        _require(ready)
        chosen = _chosen_accel(ready, accel)
    else:
        from popcorn.experiment.dispatch import common_accel, connect

        connect(scheduler).close()
        chosen = common_accel(scheduler, ready.setting.series) if accel == "auto" else accel
    require_room_to_record()
    run_dir = new_run_dir(Path(ready.source.name).stem)
    begin_record(ready, chosen, typed_words(sys.argv), run_dir)
    _go(ready, chosen, run_dir, scheduler, as_json)


def _resume(name: str, dry_run: bool, scheduler: str | None, as_json: bool) -> None:
    from popcorn.experiment.ready import get_ready
    from popcorn.experiment.record import done_trials, find_run, read_record
    from popcorn.experiment.schedule import remaining
    from popcorn.run.results import RESULTS_FILE

    run_dir = find_run(name)
    record, source, wanted = read_record(run_dir)
    ready = get_ready(source, wanted, record.machine)
    done = done_trials(run_dir) if (run_dir / RESULTS_FILE).exists() and (run_dir / RESULTS_FILE).stat().st_size else []
    left = remaining(ready.jobs, done)
    if dry_run:
        _tell_plan(ready, left, as_json)
        return
    # Of a run that is complete only the report is written anew, whatever is up meanwhile.
    if scheduler is None and left:
        _require(ready)
    _go(ready, record.accel, run_dir, scheduler, as_json)


def _require(ready: Ready) -> None:
    """What must be there before anything is begun."""
    from popcorn import hostpackages
    from popcorn.image.npbtree import build_tree_program
    from popcorn.machine import registry

    for system in ready.systems.values():
        for name in system.machine_names:
            registry.require_free(name)
    hostpackages.ensure("up")
    if "vm" in ready.systems:
        hostpackages.ensure("run vm")
    for tree in ready.trees:
        build_tree_program(tree)


def _chosen_accel(ready: Ready, accel: Any) -> Accel:
    """One for all systems: KVM only if it boots the kernel."""
    if accel == "tcg":
        return "tcg"
    from popcorn.build.kernel import build_kernel
    from popcorn.errors import HostError
    from popcorn.machine import kvm

    verdict = kvm.probe(build_kernel(series=ready.setting.series).bzimage)
    if verdict.usable:
        return "kvm"
    if accel == "kvm":
        raise HostError(f"KVM cannot be used on this host: {verdict.reason}", hint="use --accel tcg (or auto)")
    return "tcg"


def _go(ready: Ready, accel: Accel, run_dir: Path, scheduler: str | None, as_json: bool) -> None:
    import json

    from popcorn.errors import CheckFailed, PopcornError
    from popcorn.experiment.dispatch import DaskExecutor
    from popcorn.experiment.executor import Executor, LocalExecutor
    from popcorn.experiment.record import BOOTS
    from popcorn.experiment.runner import take_trials
    from popcorn.report.experiment import write_experiment_report

    go_on = f"popcorn run --resume {run_dir.name}"
    executor: Executor = LocalExecutor(ready, accel, run_dir / BOOTS)
    if scheduler is not None:
        executor = DaskExecutor(ready, accel, run_dir / BOOTS, scheduler)
    try:
        statuses = take_trials(ready, run_dir, executor)
    except KeyboardInterrupt:
        click.echo(f"popcorn: stopped; what had ended is recorded. Go on with `{go_on}`", err=True)
        raise
    except PopcornError as error:
        error.hint = "; ".join(filter(None, [error.hint, f"what had ended is recorded: `{go_on}` goes on"]))
        raise
    report = write_experiment_report([run_dir])
    if as_json:
        document = {"run": str(run_dir), "report": str(report), "trials": dict(statuses)}
        click.echo(json.dumps(document, indent=2))
    else:
        _print(run_dir)
        click.echo(f"report: {report}")
    lost = {status: number for status, number in statuses.items() if status != "ok"}
    if lost:
        raise CheckFailed(
            f"{sum(lost.values())} of {sum(statuses.values())} trials have no value: "
            + ", ".join(f"{number} {status}" for status, number in lost.items()),
            hint=f"the report tells which; what they said is in {run_dir / 'raw'}",
        )


def _tell_plan(ready: Ready, jobs: list[Any], as_json: bool) -> None:
    import json

    from popcorn.cli.table import print_table
    from popcorn.experiment.timing import Forecast, as_time

    forecast = Forecast(ready.systems, ready.workloads)
    total_s = forecast.of_all_s(jobs)
    if as_json:
        trials = [
            {"boot": job.number, "system": job.system, "state": job.state, "workload": trial.workload}
            | {"cores": trial.cores, "iteration": trial.iteration, "kind": job.kind}
            for job in jobs
            for trial in job.trials
        ]
        left_out = [vars(one) for one in ready.left_out]
        click.echo(json.dumps({"estimate_s": round(total_s), "trials": trials, "left_out": left_out}, indent=2))
        return
    rows = [
        [
            *(str(job.number), trial.system, trial.workload, str(trial.cores)),
            "counted" if job.counting else str(trial.iteration),
        ]
        for job in jobs
        for trial in job.trials
    ]
    if not rows:
        click.echo("all trials were taken: there is nothing left to measure")
        return
    print_table(["BOOT", "SYSTEM", "WORKLOAD", "CORES", "ITERATION"], rows, frozenset({"BOOT", "CORES", "ITERATION"}))
    for one in ready.left_out:
        click.echo(f"not measured: {one.workload} on {one.cores} cores of {one.system}: {one.reason}")
    click.echo(f"{len(rows)} trials in {len(jobs)} boots, about {as_time(total_s)} on two cores without KVM")


def _print(run_dir: Path) -> None:
    from popcorn.cli.table import print_table
    from popcorn.report.points import ratio_table, read_run, summary_table

    data = read_run(run_dir)
    for header, rows in (summary_table(data), ratio_table(data)):
        if rows:
            header = [cell.upper() for cell in header]
            print_table(header, rows, frozenset(header[2:]) - {"SAYS"})
            click.echo()
