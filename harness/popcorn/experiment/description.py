# SPDX-License-Identifier: Apache-2.0
"""Descriptions of experiments in TOML: reading them, and those that come with Popcorn."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from popcorn.config.toml import line_of, model_error, parse_toml
from popcorn.errors import UserError

_SHIPPED = Path(__file__).parent / "shipped"


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Claim(_Model):
    """Something that the paper (or anybody) says, in a form that data can answer.

    It is about the ratio of two systems' means at some core counts, and whether that lies within bounds.
    """

    text: str
    """As it was said."""
    ratio: tuple[str, str]
    """Two systems: how many times the second's value the first's is."""
    workload: str | None = None
    """The workload it is about, or what the names of several begin with; all if not given."""
    cores: tuple[int, ...] = ()
    """At which core counts; all that were measured if none is given."""
    at_least: float | None = None
    at_most: float | None = None
    where: Literal["all", "most", "any"] = "all"
    """At how many of these core counts the ratio lies within the bounds."""

    @model_validator(mode="after")
    def _has_bounds(self) -> Claim:
        if self.at_least is None and self.at_most is None:
            raise ValueError("a claim needs at_least or at_most")
        if self.at_least is not None and self.at_most is not None and self.at_least > self.at_most:
            raise ValueError(f"at_least is {self.at_least:g} and at_most {self.at_most:g}")
        return self


class Experiment(_Model):
    """What is measured. The command line may change machine, cores, iterations, class, systems and seed."""

    title: str
    paper: str = ""
    """Which figure of the paper it repeats."""
    note: str = ""
    """What a reader of the report must know."""
    machine: str = "paper"
    systems: tuple[str, ...] = Field(min_length=1)
    cores: tuple[int, ...] = Field(min_length=1)
    iterations: int = Field(ge=1)
    boots: int = Field(1, ge=1)
    """How often each system is booted; the iterations are divided among its boots."""
    instructions: bool = False
    """Whether instructions are counted, in boots of their own, by the emulator."""
    timeout_s: float = Field(600.0, gt=0)
    """A trial that takes longer hangs, however busy it is."""
    one_figure: bool = False
    """Whether all workloads stand in one figure, a line each."""
    workloads: tuple[dict[str, Any], ...] = Field(min_length=1)
    """``kind`` and its options, see `popcorn.experiment.workloads`."""
    claims: tuple[Claim, ...] = ()

    @model_validator(mode="after")
    def _counts_once(self) -> Experiment:
        for name in ("systems", "cores"):
            values = getattr(self, name)
            if len(set(values)) < len(values):
                raise ValueError(f"{name} names something twice")
        if any(count < 1 for count in self.cores):
            raise ValueError("cores are counted from 1")
        return self


@dataclass(frozen=True)
class Source:
    """Where a description came from, for errors and for the run's folder."""

    name: str
    """How the user calls it: ``fig12``, or a path."""
    where: str
    """What errors call it."""
    text: str

    def line(self, *place: str | int) -> str:
        """Where a key stands, as ``FILE:LINE``."""
        line = line_of(self.text, place)
        return f"{self.where}:{line}" if line else self.where


def experiment_names() -> list[str]:
    """Those that come with Popcorn; ``fig9`` before ``fig10``."""
    return sorted((path.stem for path in _SHIPPED.glob("*.toml")), key=_by_number)


def _by_number(name: str) -> tuple[str, int]:
    letters = name.rstrip("0123456789")
    return letters, int(name[len(letters) :] or 0)


def find_description(name_or_path: str) -> Source:
    """The text of a description.

    Raises:
        UserError: there is none, or it cannot be read.
    """
    path = Path(name_or_path)
    if name_or_path in experiment_names():
        path = _SHIPPED / f"{name_or_path}.toml"
    elif "/" not in name_or_path and not path.suffix:
        near = difflib.get_close_matches(name_or_path, experiment_names(), n=1)
        known = f"experiments are {', '.join(experiment_names())}, or the path of a TOML file"
        raise UserError(
            f"unknown experiment {name_or_path!r}", hint=f"did you mean {near[0]!r}? {known}" if near else known
        )
    try:
        return Source(name_or_path, str(path), path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(
            f"cannot read the experiment {path}: {getattr(error, 'strerror', None) or error}",
            hint=f"experiments that come with Popcorn: {', '.join(experiment_names())}",
        ) from error


def read_experiment(source: Source) -> Experiment:
    """The experiment that a text describes; what its systems and workloads are is checked where they are made.

    Raises:
        UserError: naming the line.
    """
    return parse_toml(source.text, Experiment, source.where)


def read_options(source: Source, place: tuple[str | int, ...], options: dict[str, Any], model: type[BaseModel]) -> Any:
    """The options of a part of a description as their own model.

    Args:
        place: where in the description they stand.

    Raises:
        UserError: naming the line.
    """
    try:
        return model.model_validate(options)
    except ValidationError as error:
        first = min(error.errors(), key=lambda one: one["type"] != "extra_forbidden")
        raise model_error(error, model, source.line(*place, *first["loc"])) from error


def unknown(source: Source, place: tuple[str | int, ...], what: str, name: str, known: Sequence[str]) -> UserError:
    """The error for a name that nobody has."""
    near = difflib.get_close_matches(name, known, n=1)
    listed = f"known are {', '.join(known)}"
    return UserError(
        f"{source.line(*place)}: unknown {what} {name!r}",
        hint=f"did you mean {near[0]!r}? {listed}" if near else listed,
    )
