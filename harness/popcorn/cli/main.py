# SPDX-License-Identifier: Apache-2.0
"""The ``popcorn`` command: finds the verb's module and turns errors into exit statuses."""

from __future__ import annotations

import difflib
import importlib
import os
import signal
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path

import click

from popcorn import __version__
from popcorn.ending import ending_orderly, signal_of
from popcorn.errors import PopcornError, UserError, from_os_error

# verb: (module:function, one line of help). A verb is loaded only when it is
# used, and listed only when its module exists.
VERBS: dict[str, tuple[str, str]] = {
    "demo": ("popcorn.cli.demo:demo", "48 kernels from source, a benchmark on each, a report"),
    "test": ("popcorn.cli.test:test", "run all tests"),
    "doctor": ("popcorn.cli.doctor:doctor", "tell the state of this host"),
    "build": ("popcorn.cli.build:build", "build kernel, kexec and images"),
    "kernel": ("popcorn.cli.kernel:kernel", "work on the kernel patches"),
    "plan": ("popcorn.cli.plan:plan", "cut a machine into partitions"),
    "probe": ("popcorn.cli.probe:probe", "describe the machine a running Linux has"),
    "up": ("popcorn.cli.up:up", "boot a machine with its kernels"),
    "down": ("popcorn.cli.down:down", "end a machine"),
    "ls": ("popcorn.cli.ls:ls", "list the machines that are up"),
    "start": ("popcorn.cli.life:start", "start kernels of a machine that is up"),
    "stop": ("popcorn.cli.life:stop", "end kernels in good order"),
    "kill": ("popcorn.cli.life:kill", "take the CPUs of kernels back, whatever they do"),
    "restart": ("popcorn.cli.life:restart", "stop, or kill, and start again"),
    "repartition": ("popcorn.cli.repartition:repartition", "cut a machine that is up anew"),
    "ps": ("popcorn.cli.ps:ps", "list the kernels of a machine"),
    "exec": ("popcorn.cli.exec:exec_", "run a command in a kernel"),
    "ssh": ("popcorn.cli.ssh:ssh", "log in to a kernel over the network"),
    "cp": ("popcorn.cli.cp:cp", "copy files to and from kernels"),
    "console": ("popcorn.cli.console:console", "a terminal on a kernel, without the network"),
    "log": ("popcorn.cli.log:log", "show a kernel's console"),
    "diagnose": ("popcorn.cli.diagnose:diagnose", "tell what became of each kernel, and why"),
    "dump": ("popcorn.cli.dump:dump", "keep a kernel's memory, for drgn and crash"),
    "gdb": ("popcorn.cli.gdb:gdb", "debug a kernel of a machine that is up"),
    "snapshot": ("popcorn.cli.snapshot:snapshot", "save a machine that is up, to go on from there"),
    "bisect": ("popcorn.cli.bisect:bisect", "find the change that brought a failure"),
    "bench": ("popcorn.cli.bench:bench", "measure"),
    "run": ("popcorn.cli.run:run", "repeat the paper's experiments, or your own"),
    "worker": ("popcorn.cli.worker:worker", "take trials of runs that others began"),
    "compare": ("popcorn.cli.compare:compare", "tell whether a run is worse than another"),
    "ci": ("popcorn.cli.ci:ci", "build, test, measure and compare, for a CI job"),
    "results": ("popcorn.cli.results:results", "hand what was measured to other programs"),
    "report": ("popcorn.cli.report:report", "show what a run found"),
    "prune": ("popcorn.cli.prune:prune", "remove from the cache what was not used for long"),
}


class LazyGroup(click.Group):
    """A group whose commands are imported when they are called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [verb for verb in VERBS if _module_exists(VERBS[verb][0])]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in VERBS or not _module_exists(VERBS[cmd_name][0]):
            return None
        module, _, attribute = VERBS[cmd_name][0].partition(":")
        command = getattr(importlib.import_module(module), attribute)
        assert isinstance(command, click.Command), f"{module}:{attribute} is no click command"
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        verb = args[0]
        verbs = self.list_commands(ctx)
        if not verb.startswith("-") and verb not in verbs:
            near = difflib.get_close_matches(verb, verbs, n=1)
            raise UserError(
                f"there is no verb {verb!r}",
                hint=f"did you mean {near[0]!r}?" if near else f"verbs are {', '.join(verbs)}",
            )
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        rows = [(verb, VERBS[verb][1]) for verb in self.list_commands(ctx)]
        if rows:
            with formatter.section("Verbs"):
                formatter.write_dl(rows)


def _module_exists(target: str) -> bool:
    name = target.partition(":")[0].removeprefix("popcorn.cli.")
    here = Path(__file__).parent
    return (here / f"{name}.py").is_file() or (here / name / "__init__.py").is_file()


@click.command(cls=LazyGroup, name="popcorn", context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="popcorn")
@click.option("--debug", is_flag=True, help="Show where in the program an error came from.")
def popcorn(debug: bool) -> None:
    """Many Linux kernels on one machine.

    Exit statuses: 0 fine, 1 what was tested failed, 2 your mistake, 3 the host
    or the machine failed, 4 a test is flaky (ci).
    """


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit status."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    # What everybody could write to would be run later on: the cache holds programs.
    os.umask(os.umask(0o077) | 0o002)
    debug = "--debug" in arguments[:1]
    try:
        with ending_orderly():
            status = popcorn.main(args=arguments, prog_name="popcorn", standalone_mode=False)
        sys.stdout.flush()
        return status if isinstance(status, int) else 0
    except PopcornError as error:
        return _told(error, debug)
    except click.Abort as error:
        return _interrupted(error.__cause__)
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except BrokenPipeError:
        # The reader left; flushing what remains at exit would fail again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except KeyboardInterrupt as error:
        return _interrupted(error)
    except OSError as error:
        return _told(from_os_error(error), debug, error)


def _interrupted(cause: BaseException | None) -> int:
    number = signal_of(cause)
    print(
        "popcorn: interrupted" if number == signal.SIGINT else f"popcorn: {signal.strsignal(number)}", file=sys.stderr
    )
    return 128 + number


def _told(error: PopcornError, debug: bool, cause: BaseException | None = None) -> int:
    if debug:
        traceback.print_exception(cause or error)
    print(f"popcorn: error: {error}", file=sys.stderr)
    if error.hint:
        print(f"  hint: {error.hint}", file=sys.stderr)
    return error.exit_status
