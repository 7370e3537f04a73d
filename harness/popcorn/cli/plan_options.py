# SPDX-License-Identifier: Apache-2.0
"""The options that say which plan is meant, for every verb that takes one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from popcorn.errors import UserError

if TYPE_CHECKING:
    from popcorn.plan import Plan

F = TypeVar("F", bound=Callable[..., Any])

DEFAULT_MACHINE = "paper"
DEFAULT_POLICY = "per-core"


def plan_options(command: F) -> F:
    """Give a command the options that `chosen_plan` takes as keywords."""
    for option in reversed(
        (
            click.option("--machine", metavar="M", help=f"paper, small, or a TOML file.  [default: {DEFAULT_MACHINE}]"),
            click.option(
                "--policy",
                metavar="P",
                help="smp, hotplug, per-core, per-node, per-socket, or CPU lists such as '0-5;6,8,10;7,9,11'.  "
                f"[default: {DEFAULT_POLICY}]",
            ),
            click.option("--memory", metavar="numa|flat", help="How to divide memory.  [default: numa]"),
            click.option(
                "--size",
                "sizes",
                multiple=True,
                metavar="[ID=]SIZE",
                help="Memory of one kernel, or of each secondary.  [default: all there is, equally]",
            ),
            click.option("--device", "devices", multiple=True, metavar="NAME=ID", help="Which kernel owns a device."),
            click.option("--append", metavar="TEXT", help="Add to the command line of every kernel."),
            click.option(
                "--plan", "plan_file", type=click.Path(path_type=Path), metavar="FILE", help="A plan in JSON, instead."
            ),
        )
    ):
        command = option(command)
    return command


def chosen_plan(
    *,
    machine: str | None,
    policy: str | None,
    memory: str | None,
    sizes: tuple[str, ...],
    devices: tuple[str, ...],
    append: str | None,
    plan_file: Path | None,
) -> Plan:
    """The plan that the options of `plan_options` describe, valid.

    Raises:
        UserError: they describe none.
    """
    from popcorn.config import load_machine
    from popcorn.plan import make_plan, read_plan, validate

    if plan_file is not None:
        if any((machine, policy, memory, sizes, devices, append)):
            raise UserError(
                "--plan cannot be combined with the options that make a plan",
                hint=f"leave the other options out, or edit {plan_file}",
            )
        try:
            text = plan_file.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(f"cannot read the plan {plan_file}: {getattr(error, 'strerror', None) or error}") from error
        plan = read_plan(text, str(plan_file))
        try:
            validate(plan)
        except UserError as error:
            raise UserError(f"{plan_file}: {error}", hint=error.hint) from error
        return plan
    described = load_machine(machine or DEFAULT_MACHINE)
    name = policy or DEFAULT_POLICY
    return make_plan(
        described,
        name,
        memory=memory or "numa",
        sizes=chosen_sizes(sizes, described, name),
        devices=dict(_device(text) for text in devices),
        extra_cmdline=append or "",
    )


def chosen_sizes(texts: tuple[str, ...], machine: Any, policy: str) -> dict[int, int]:
    """Bytes of memory by kernel, from `[ID=]SIZE`; those without an id are for every secondary."""
    from popcorn.config.sizes import parse_size
    from popcorn.plan.policy import cpu_groups

    sizes: dict[int, int] = {}
    for text in texts:
        kernel, equals, size = text.rpartition("=")
        if not equals:
            for cpus in cpu_groups(machine, policy)[1:]:
                sizes.setdefault(cpus[0], parse_size(size))
        else:
            sizes[_kernel(kernel, f"--size {text}")] = parse_size(size)
    return sizes


def _device(text: str) -> tuple[str, int]:
    name, equals, kernel = text.rpartition("=")
    if not equals:
        raise UserError(f"--device {text} names no kernel", hint="write NAME=ID, e.g. net0=0")
    return name, _kernel(kernel, f"--device {text}")


def _kernel(text: str, where: str) -> int:
    if not text.isdecimal():
        raise UserError(f"{text!r} in {where} is no kernel", hint="kernels are named by their smallest CPU, e.g. 6")
    return int(text)
