# SPDX-License-Identifier: Apache-2.0
"""``popcorn repartition``"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from popcorn.cli.machine_options import name_option
from popcorn.errors import UserError

if TYPE_CHECKING:
    from popcorn.machine.machine import Machine
    from popcorn.plan import Plan


@click.command()
@name_option
@click.option("--policy", metavar="P", help="As for `popcorn plan`; hotplug gives everything to the primary.")
@click.option("--memory", metavar="numa|flat", help="How to divide memory that moves.  [default: numa]")
@click.option(
    "--size",
    "sizes",
    multiple=True,
    metavar="[ID=]SIZE",
    help="Memory of one kernel, or of each secondary.  [default: what it has, or an equal part]",
)
@click.option("--append", metavar="TEXT", default="", help="Add to the command lines of kernels that are started.")
@click.option("--plan", "plan_file", type=click.Path(path_type=Path), metavar="FILE", help="A plan in JSON, instead.")
@click.option("--dry-run", is_flag=True, help="Tell what would move.")
@click.option("--no-wait", is_flag=True, help="Return when new kernels are started, not when they are up.")
@click.option("--json", "as_json", is_flag=True, help="Print as JSON what moved.")
def repartition(
    name: str,
    policy: str | None,
    memory: str | None,
    sizes: tuple[str, ...],
    append: str,
    plan_file: Path | None,
    dry_run: bool,
    no_wait: bool,
    as_json: bool,
) -> None:
    """Cut a machine that is up anew, moving only what changes.

    Kernels that have the same CPUs as before go on, with the memory that they have. The others are
    stopped in good order; new ones are started. A primary that was booted by the policy hotplug gives
    CPUs and memory away and takes them back. What cannot be moved is named, and then nothing is.
    """
    from popcorn.guest.repartition import repartition as move
    from popcorn.guest.repartition import survey
    from popcorn.machine.machine import attach_up

    with attach_up(name) as machine:
        if not machine.record.region_size:
            raise UserError(f"machine {name!r} runs a kernel without Popcorn: there is nobody to share it with")
        if plan_file is not None:
            if any((policy, memory, sizes, append)):
                raise UserError("--plan cannot be combined with the options that make a plan", hint="leave them out")
            target = _from_file(machine, plan_file)
        else:
            target = _by_policy(machine, policy, memory, sizes, append)
        todo = survey(machine, target) if dry_run else move(machine, target, wait=not no_wait)
        if as_json:
            click.echo(json.dumps({"policy": target.policy, **asdict(todo)}, indent=2))
        else:
            click.echo("\n".join(todo.lines()))


def _by_policy(machine: Machine, policy: str | None, memory: str | None, sizes: tuple[str, ...], append: str) -> Plan:
    from popcorn.cli.plan_options import chosen_sizes
    from popcorn.machine.assemble import parameters_for_more
    from popcorn.machine.booted import booted_kernels, usual_kernel
    from popcorn.machine.limits import require_room
    from popcorn.plan.change import next_plan

    if policy is None:
        raise UserError("no plan to go to is named", hint="name one: --policy per-core, CPU lists, or --plan FILE")
    plan = machine.plan
    own, usual = booted_kernels(machine.run_dir).get(plan.primary.id), usual_kernel(machine.run_dir)
    flavour = usual.flavour if usual is not None else "default"
    inherited = parameters_for_more(plan, own.flavour if own is not None else "default", flavour)
    target = next_plan(
        plan,
        policy,
        memory=memory or "numa",
        sizes=chosen_sizes(sizes, plan.machine, policy),
        parameters=f"{inherited} {append}".strip(),
    )
    require_room(target, flavour)
    return target


def _from_file(machine: Machine, path: Path) -> Plan:
    """A plan that a person wrote; what cannot change anyway may be left out."""
    from popcorn.plan import read_plan, validate

    current = machine.plan
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"cannot read the plan {path}: {error}", hint="`popcorn plan --json` writes one") from error
    if isinstance(document, dict):
        known = json.loads(current.to_json())
        document = {key: known[key] for key in ("machine", "region", "hotplug") if key in known} | document
    target = read_plan(json.dumps(document), str(path))
    primary = target.primary.model_copy(update={"cmdline": current.primary.cmdline})
    others = [partition for partition in target.partitions if not partition.is_primary]
    target = target.with_partitions([primary, *others])
    try:
        validate(target)
    except UserError as error:
        raise UserError(f"{path}: {error}", hint=error.hint) from error
    return target
