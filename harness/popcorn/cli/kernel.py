# SPDX-License-Identifier: Apache-2.0
"""``popcorn kernel``"""

from __future__ import annotations

import json
import shlex
from dataclasses import asdict
from pathlib import Path

import click

_DEFAULT_TREE = Path("linux-popcorn")

_source_option = click.option(
    "--source",
    type=click.Path(path_type=Path),
    metavar="TREE|TARBALL",
    help="Kernel source, instead of Debian's package or kernel.org's release.",
)
_DEFAULT_SERIES = "6.12"
_series_option = click.option("--series", default=_DEFAULT_SERIES, show_default=True, help="Which kernel series.")
_json_option = click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
_directory_argument = click.argument(
    "directory", type=click.Path(path_type=Path, file_okay=False), default=_DEFAULT_TREE, metavar="[DIR]"
)


def _named(directory: Path) -> str:
    """A work tree as a word of a command, where it has to be named."""
    return "" if directory == _DEFAULT_TREE else f" {shlex.quote(str(directory))}"


@click.group()
def kernel() -> None:
    """Work on the kernel patches.

    The patch files are the source of truth. `checkout` turns them into a git tree, `new` begins a patch there,
    `refresh` writes its commits back, `verify` proves that the series holds, `rebase` takes it to another base, `send`
    makes mail of it.
    """


@kernel.command()
@_directory_argument
@_series_option
@_source_option
@_json_option
def checkout(directory: Path, series: str, source: Path | None, as_json: bool) -> None:
    """Make DIR (linux-popcorn) a git tree with the series as commits."""
    from popcorn.build.checkout import checkout as make

    applied = make(directory, series, source)
    if as_json:
        facts = {"dir": str(directory.resolve()), "base": asdict(applied.base), "commits": list(applied.commits)}
        click.echo(json.dumps(facts, indent=2))
    else:
        click.echo(f"{directory}: Linux {applied.base.version} and {len(applied.commits)} patches")


@kernel.command()
@_directory_argument
@_json_option
def refresh(directory: Path, as_json: bool) -> None:
    """Write the commits in DIR (linux-popcorn) back as patch files."""
    from popcorn.build.checkout import refresh as write_back

    done = write_back(directory)
    if as_json:
        click.echo(json.dumps(asdict(done), indent=2))
        return
    for name in done.changed:
        click.echo(f"written  {name}")
    for name in done.removed:
        click.echo(f"removed  {name}")
    if not done.changed and not done.removed:
        click.echo(f"nothing changed ({len(done.patches)} patches)")


@kernel.command()
@click.argument("subject")
@_directory_argument
def new(subject: str, directory: Path) -> None:
    """Begin a patch on top of those in DIR (linux-popcorn): SUBJECT is as in 'popcorn: count lost messages'.

    It is an empty commit with a template of its message: edit files, then `git commit --amend -a`.
    """
    from popcorn.build.newpatch import new_patch

    commit = new_patch(directory, subject)
    click.echo(f"{commit[:12]} {subject}")
    click.echo(
        f"edit files in {directory}, git add what is new, git commit --amend -a, then "
        f"`popcorn kernel refresh{_named(directory)}`"
    )


@kernel.command()
@_directory_argument
@_source_option
@click.option("--update", is_flag=True, help="Look for a newer base where the series' comes from.")
@click.option("--continue", "go_on", is_flag=True, help="Go on after a conflict was resolved and added.")
@click.option("--abort", is_flag=True, help="Put DIR back as it was.")
@_json_option
def rebase(directory: Path, source: Path | None, update: bool, go_on: bool, abort: bool, as_json: bool) -> int:
    """Take the patches in DIR (linux-popcorn) to another base.

    A newer 6.12.y comes with --update or --source; a kernel of another version, with --source, makes a series of its
    own, beside the old one. Conflicts are shown as git shows them. The patch files change with `refresh` only.

    Exit status: 0 all patches are on the new base, 1 one does not fit.
    """
    from popcorn.build import rebase as work
    from popcorn.errors import UserError

    if go_on + abort + bool(source or update) > 1:
        raise UserError("--continue, --abort and a new base exclude each other", hint="give one of them")
    if abort:
        work.give_up(directory)
        click.echo(f"{directory} is as it was")
        return 0
    found = work.go_on(directory) if go_on else work.rebase(directory, source, update=update)
    if as_json:
        click.echo(json.dumps(asdict(found), indent=2))
    elif found.conflict:
        click.echo(f"{found.done} of {found.total} patches are on Linux {found.version}; this one does not fit:")
        click.echo(f"  {found.conflict}")
        click.echo(
            f"resolve it in {directory} (git status, git diff), git add the files, then "
            f"`popcorn kernel rebase{_named(directory)} --continue`; --abort puts all back"
        )
    else:
        click.echo(f"{directory}: {found.done} patches on Linux {found.version}, series {found.series}")
        series = "" if found.series == _DEFAULT_SERIES else f" --series {found.series}"
        click.echo(f"next: `popcorn kernel refresh{_named(directory)}`, then `popcorn kernel verify{series} --record`")
    return 1 if found.conflict else 0


@kernel.command()
@_directory_argument
@click.option("--dry-run", is_flag=True, help="Needed: sending is left to people.")
@click.option("--output", type=click.Path(path_type=Path, file_okay=False), default=Path("outgoing"), show_default=True)
@click.option("--to", multiple=True, metavar="ADDRESS", help="Recipients.")
@click.option("--cc", multiple=True, metavar="ADDRESS", help="Likewise.")
@click.option("--cover", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE", help="The cover letter.")
@click.option(
    "-v", "--reroll-count", "reroll", type=click.IntRange(min=1), default=1, metavar="N", help="Version of the series."
)
@click.option("--prefix", default="PATCH", show_default=True, help="In front of the subjects, e.g. 'RFC PATCH'.")
@_json_option
def send(
    directory: Path,
    dry_run: bool,
    output: Path,
    to: tuple[str, ...],
    cc: tuple[str, ...],
    cover: Path | None,
    reroll: int,
    prefix: str,
    as_json: bool,
) -> None:
    """Make mail of the patches in DIR (linux-popcorn): cover letter, messages, an mbox.

    Where git send-email is installed, it does all but send them. The cover letter's FILE has its subject in the first
    line. Nothing is ever sent from here.
    """
    from popcorn.build.send import MBOX, prepare
    from popcorn.errors import UserError

    if not dry_run:
        raise UserError(
            "popcorn sends no mail", hint=f"prepare with --dry-run, look, then git send-email {output}/*.patch"
        )
    made = prepare(directory, output, to=to, cc=cc, reroll=reroll, cover=cover, prefix=prefix)
    if as_json:
        click.echo(json.dumps({**asdict(made), "folder": str(made.folder)}, indent=2))
        return
    click.echo(f"{made.folder}: {len(made.patches)} messages, and all of them in {MBOX}")
    tried = "git send-email accepts them" if made.sendable else "git send-email is not installed: not tried"
    click.echo(tried)
    for one in made.missing:
        click.echo(f"missing: {one}")


@kernel.command()
@_series_option
@_source_option
@click.option("--quick", is_flag=True, help="Build only the whole series, not every prefix of it.")
@click.option("--fresh", is_flag=True, help="Check again what passed before.")
@click.option("--record", is_flag=True, help="When all passes, write the base's version into base.toml as tested.")
@click.option("-j", "--jobs", default=0, metavar="N", help="Compilers at once; default: one a CPU.")
@_json_option
def verify(series: str, source: Path | None, quick: bool, fresh: bool, record: bool, jobs: int, as_json: bool) -> None:
    """Prove that the series holds.

    It applies; every prefix builds; checkpatch --strict and sparse are content; with CONFIG_POPCORN=n the kernel's
    objects are those of the base. What passed before and has not changed is not checked again.
    """
    from popcorn import hostpackages
    from popcorn.build.checks import Check
    from popcorn.build.series import load_series
    from popcorn.build.verify import record_tested
    from popcorn.build.verify import verify as prove
    from popcorn.errors import CheckFailed

    hostpackages.ensure("kernel")

    def told(check: Check) -> None:
        if not as_json:
            verdict = "ok    " if check.passed else "FAILED"
            when = "before" if check.remembered else f"{check.elapsed_s:.1f} s"
            said = check.said.replace("\n", "\n         ")
            click.echo(f"{verdict} {check.name}: {check.subject} ({when})" + (f"\n         {said}" if said else ""))

    result = prove(series, source, quick=quick, fresh=fresh, jobs=jobs, told=told)
    if as_json:
        click.echo(result.to_json())
    failed = [check for check in result.checks if not check.passed]
    if failed:
        raise CheckFailed(
            f"the series {series} does not hold on {result.base}: {len(failed)} of {len(result.checks)} checks failed "
            f"(first: {failed[0].name}, {failed[0].subject})"
        )
    if record and not quick and record_tested(load_series(series), result.base):
        click.echo(f"recorded {result.base} as tested in base.toml", err=True)
