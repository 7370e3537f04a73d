# SPDX-License-Identifier: Apache-2.0
"""``popcorn test``"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from threading import Thread

import click
import psutil

from popcorn import dirs, hostpackages, junit
from popcorn.build.store import locked
from popcorn.cli.build import build
from popcorn.ending import signal_of, undisturbed
from popcorn.errors import CheckFailed, HostError, PopcornError, UserError
from popcorn.files import sha256_bytes
from popcorn.process import Completed, kill_tree, run
from popcorn.progress import note

SUITES = ("lint", "unit", "guest")
VERDICTS = "guest.jsonl"
"""Where guest's tests are noted as they end; tox.ini says the same."""


@click.command(context_settings={"ignore_unknown_options": True})
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED, metavar="[lint] [unit] [guest] [-- PYTEST ARGUMENTS]")
def test(arguments: tuple[str, ...]) -> None:
    """Run the tests, all of them unless suites are named.

    lint is format, lint and types; unit is what needs no machine; guest boots
    machines, as many at a time as the host bears, and unit runs beside it. What
    follows goes to pytest (-n 0 for a debugger). Results are in build/junit/,
    those of what had ended when a signal stopped it.

    Exit status: 0 all passed, 1 some did not, 3 some did not, and that was the
    host's or QEMU's doing alone.
    """
    root = dirs.source_root()
    if not (root / "tox.ini").is_file():
        raise UserError("an installed Popcorn has no tests", hint="run ./popcorn test in a checkout")
    count = next((index for index, word in enumerate(arguments) if word not in SUITES), len(arguments))
    suites, pytest_arguments = arguments[:count] or SUITES, arguments[count:]
    if not any((root / "testsuites").rglob("test_*.py")):
        suites = tuple(suite for suite in suites if suite != "guest")
    if "guest" in suites:
        hostpackages.ensure("test")
    elif "unit" in suites:
        hostpackages.ensure("test unit")
    reports = root / "build" / "junit"
    reports.mkdir(parents=True, exist_ok=True)
    # Reports, logs and tox's own files have one name each in a checkout.
    with locked(f"test-{sha256_bytes(str(root).encode())[:16]}", f"another `popcorn test` in {root}"):
        for suite in suites:
            (reports / f"{suite}.xml").unlink(missing_ok=True)
        for old in reports.parent.glob(f"{VERDICTS}*"):
            old.unlink()
        try:
            failed = _run(root, reports, suites, pytest_arguments)
        except KeyboardInterrupt as error:
            with undisturbed():
                _write_partial(reports, suites, f"stopped by {signal_of(error).name}")
            raise
        written = [reports / f"{suite}.xml" for suite in suites]
        totals = junit.total(written)
        status = HostError.exit_status if junit.only_lost(written) else CheckFailed.exit_status
    failed = bool(failed or totals.failed or totals.errors)
    if failed:
        click.echo(f"not all tests passed; the output above says why, and the reports are in {reports}")
    # The last thing said, so that whoever started this finds it where pytest would have put it.
    click.echo(totals.summary_line())
    sys.exit(status if failed else 0)


def _run(root: Path, reports: Path, suites: tuple[str, ...], pytest_arguments: tuple[str, ...]) -> bool:
    """Run suites; whether anything failed. Guests leave a good part of the CPUs idle: unit tests get that."""
    if "guest" not in suites:
        return _tox(root, reports, suites, pytest_arguments).returncode != 0
    others = tuple(suite for suite in suites if suite not in ("unit", "guest"))
    failed = bool(others) and _tox(root, reports, others, pytest_arguments).returncode != 0
    if "unit" not in suites:
        return _guest(root, reports, pytest_arguments) or failed
    log = reports.parent / "unit.log"
    log.unlink(missing_ok=True)
    note(f"unit runs beside guest, and writes to {log}")
    unit: list[Completed] = []

    def run_unit() -> None:
        unit.append(_tox(root, reports, ("unit",), pytest_arguments, log))
        note(f"\nunit: {junit.total([reports / 'unit.xml']).summary_line().strip(' =')}")

    beside = Thread(target=run_unit, daemon=True)
    beside.start()
    try:
        failed |= _guest(root, reports, pytest_arguments)
        beside.join()
    except PopcornError:
        # What does not build ends guest; the answer of unit is as good as before.
        beside.join()
        _unit_failed(reports, log, unit)
        raise
    except BaseException:
        # Nobody waits for the thread, and what it started has children of its own.
        for child in psutil.Process().children():
            kill_tree(child.pid)
        raise
    return _unit_failed(reports, log, unit) or failed


def _write_partial(reports: Path, suites: tuple[str, ...], why: str) -> None:
    """Reports of what had ended, for suites that were stopped before they wrote any."""
    # They know pytest, which takes its time to load.
    from popcorn.testing.partial import partial_cases
    from popcorn.testing.tell import read_unended, read_verdicts

    for suite in suites:
        verdicts = reports.parent / VERDICTS if suite == "guest" else Path(os.devnull)
        if not junit.is_whole(reports / f"{suite}.xml"):
            cases = partial_cases(read_verdicts(verdicts), read_unended(verdicts), why)
            junit.write(reports / f"{suite}.xml", f"{suite}, partial", cases)


def _unit_failed(reports: Path, log: Path, unit: list[Completed]) -> bool:
    """Whether something failed in unit, which is shown then."""
    report = reports / "unit.xml"
    if not junit.is_whole(report):
        junit.write(report, "unit", [junit.Case("start", "unit could not begin", passed=False, elapsed_s=0.0)])
    if unit and not unit[0].returncode:
        return False
    click.echo(log.read_text(errors="replace") if log.is_file() else "unit could not begin")
    return True


def _guest(root: Path, reports: Path, pytest_arguments: tuple[str, ...]) -> bool:
    """Run the suites on machines; whether anything failed."""
    # Here progress is seen, and what does not build is one error; a suite would build it in silence, again and again.
    click.get_current_context().invoke(build)
    return _tox(root, reports, ("guest",), pytest_arguments).returncode != 0


def _tox(
    root: Path, reports: Path, suites: tuple[str, ...], pytest_arguments: tuple[str, ...], log: Path | None = None
) -> Completed:
    """Run suites one after the other. With ``log`` their output goes there, and everybody else goes first."""
    verdicts = reports.parent / f"tox-{'-'.join(suites)}.json"
    politely = () if log is None else ("nice", "-n", "10")
    done = run(
        [
            *(*politely, sys.executable, "-m", "tox", "run", "-c", str(root / "tox.ini"), "-e", ",".join(suites)),
            *("--workdir", str(root / "build" / "tox"), "--result-json", str(verdicts), "--", *pytest_arguments),
        ],
        cwd=root,
        env={**os.environ, "POPCORN_PYTHON": sys.executable, "POPCORN_TOX_DEPS": "", "TOX_PARALLEL_NO_SPINNER": "1"},
        log=log,
        inherit=log is None,
        check=False,
    )
    _complete_reports(reports, suites, verdicts)
    if done.returncode == 130:
        raise KeyboardInterrupt
    return done


def _complete_reports(reports: Path, suites: tuple[str, ...], verdicts: Path) -> None:
    """Write a report for suites that wrote none (lint, and whatever could not begin), from tox's verdicts."""
    environments = json.loads(verdicts.read_text())["testenvs"] if verdicts.is_file() else {}
    for suite in suites:
        report = reports / f"{suite}.xml"
        if junit.is_whole(report):
            continue
        said = "its report was cut short" if report.is_file() else "tox could not begin"
        commands = environments.get(suite, {}).get("test", [])
        cases = [
            junit.Case(
                name=" ".join(Path(word).name if index == 0 else word for index, word in enumerate(command["command"])),
                output="" if command["retcode"] == 0 else f"{command['output']}{command['err']}",
                passed=command["retcode"] == 0,
                elapsed_s=float(command["elapsed"]),
            )
            for command in commands
        ]
        if not cases:
            cases = [junit.Case(name="start", output=said, passed=False, elapsed_s=0.0)]
        junit.write(report, suite, cases)
