# SPDX-License-Identifier: Apache-2.0
"""The workloads that descriptions can name.

A kind of workload is a model of its options, with `workloads`, which makes the workloads that they ask for. To add
one, write a module with such a model and put it into `KINDS`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from popcorn.errors import UserError
from popcorn.experiment.description import Experiment, Source, read_options, unknown
from popcorn.experiment.protocols import Workload
from popcorn.experiment.workloads.messages import MessageOptions
from popcorn.experiment.workloads.npb import NpbCopiesOptions, NpbOpenmpOptions
from popcorn.experiment.workloads.npb_mpi import NpbMpiOptions
from popcorn.experiment.workloads.tcp import TcpOptions
from popcorn.experiment.workloads.web import WebOptions


class Options(Protocol):
    """What a kind's model must offer."""

    def workloads(self) -> Sequence[Workload]:
        """Those that the options ask for."""


KINDS: dict[str, type[Any]] = {
    "npb-openmp": NpbOpenmpOptions,
    "npb-copies": NpbCopiesOptions,
    "npb-mpi": NpbMpiOptions,
    "messages": MessageOptions,
    "tcp": TcpOptions,
    "web": WebOptions,
}


@runtime_checkable
class FromTree(Protocol):
    """A workload whose program a user's own NPB tree can give."""

    def from_tree(self, tree: Path, cores: Sequence[int]) -> Workload:
        """The same with that program.

        Raises:
            UserError: the tree has none.
        """


def make_workloads(
    experiment: Experiment, source: Source, *, size: str | None = None, npb_source: str | None = None
) -> dict[str, Workload]:
    """The workloads of an experiment, by name.

    Args:
        size: an NPB class in place of those of the description.
        npb_source: folder of a user's own NPB tree, whose programs are taken.

    Raises:
        UserError: there is no such kind, an option is wrong, nothing has a class, or nothing is of NPB.
    """
    found: dict[str, Workload] = {}
    sized = replaced = False
    for number, entry in enumerate(experiment.workloads):
        place = ("workloads", number)
        options = dict(entry)
        kind = options.pop("kind", None)
        if kind is None:
            raise UserError(f"{source.line(*place)}: the workload has no kind", hint=f"kinds are {', '.join(KINDS)}")
        if kind not in KINDS:
            raise unknown(source, (*place, "kind"), "kind of workload", str(kind), list(KINDS))
        if size is not None and "class" in options:
            options["class"] = size
            sized = True
        chosen: Options = read_options(source, place, options, KINDS[kind])
        for workload in chosen.workloads():
            if npb_source is not None and isinstance(workload, FromTree):
                workload = workload.from_tree(Path(npb_source), experiment.cores)
                replaced = True
            if workload.name in found:
                raise UserError(f"{source.line(*place)}: the workload {workload.name} is there twice")
            found[workload.name] = workload
    if size is not None and not sized:
        raise UserError(f"--class {size}: no workload of {source.name} has a class", hint="leave the option out")
    if npb_source is not None and not replaced:
        raise UserError(
            f"--npb-source {npb_source}: no workload of {source.name} is a benchmark of NPB",
            hint="leave the option out",
        )
    return found
