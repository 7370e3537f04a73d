# SPDX-License-Identifier: Apache-2.0
"""By how much a metric may be worse: rules in TOML, the shipped ones and the user's before them."""

from __future__ import annotations

from fnmatch import fnmatchcase
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from popcorn.config.toml import parse_toml
from popcorn.errors import UserError

_SHIPPED = Path(__file__).with_name("thresholds.toml")

Kind = Literal["counted", "timed", "told"]


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Rule(_Model):
    """How one kind of metric is judged; ``thresholds.toml`` beside this file says what each key means."""

    metric: str
    kind: Kind
    worse: float = Field(ge=0)
    slack: float = Field(0.0, ge=0)
    better: Literal["less", "more"] | None = None
    samples: int | None = Field(None, ge=1)
    boots: int = Field(3, ge=1)

    @property
    def needed(self) -> int:
        """So many samples are needed on both sides."""
        return self.samples or (1 if self.kind == "counted" else 5)

    def fits(self, workload: str, metric: str) -> bool:
        return fnmatchcase(metric, self.metric) or fnmatchcase(f"{workload} {metric}", self.metric)


class Thresholds(_Model):
    """Rules, the first that fits counts."""

    confidence: float = Field(0.95, gt=0.5, lt=1)
    """That no timed metric of a whole comparison is called worse by chance, at least."""
    emulated_times: bool = False
    """Whether times that were measured without KVM are judged: they compare only within one run."""
    rule: tuple[Rule, ...] = ()
    nr_own: int = 0
    """How many of the rules, the first ones, the user gave."""

    def of(self, workload: str, metric: str) -> Rule | None:
        return next((rule for rule in self.rule if rule.fits(workload, metric)), None)

    def own_of(self, workload: str, metric: str) -> Rule | None:
        """A rule that the user gave."""
        return next((rule for rule in self.rule[: self.nr_own] if rule.fits(workload, metric)), None)


def load_thresholds(path: Path | None = None) -> Thresholds:
    """The shipped rules, with those of a file before them.

    Raises:
        UserError: the file cannot be read, or says something that is not known, naming the line.
    """
    shipped = parse_toml(_SHIPPED.read_text(encoding="utf-8"), Thresholds, str(_SHIPPED))
    if path is None:
        return shipped
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(
            f"cannot read the thresholds {path}: {getattr(error, 'strerror', None) or error}",
            hint=f"{_SHIPPED} is an example of such a file",
        ) from error
    own = parse_toml(text, Thresholds, str(path))
    return own.model_copy(update={"rule": (*own.rule, *shipped.rule), "nr_own": len(own.rule)})
