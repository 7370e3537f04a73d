# SPDX-License-Identifier: Apache-2.0
"""A comparison as a table, and as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from popcorn.gate.compare import Comparison, Finding, Verdict
from popcorn.run.spread import figure

HEADER = ("METRIC", "WORKLOAD", "SYSTEM", "CORES", "BASE", "NEW", "RATIO", "INTERVAL", "MAY BE WORSE BY", "SAYS")
NUMBERS = frozenset({"CORES", "BASE", "NEW", "RATIO", "INTERVAL"})


def row(found: Finding) -> list[str]:
    """A finding as a line."""
    point = found.point
    return [
        point.metric,
        point.workload,
        point.system or "-",
        str(point.cores or "-"),
        _value(found.base, found.unit),
        _value(found.new, found.unit),
        "-" if found.ratio is None else figure(found.ratio),
        "-" if found.interval is None else f"{figure(found.interval.low)} – {figure(found.interval.high)}",
        _allowed(found),
        f"{found.verdict}: {found.why}" if found.why else str(found.verdict),
    ]


def rows(findings: Sequence[Finding], *, everything: bool = True) -> list[list[str]]:
    """Findings as lines.

    Args:
        everything: also what is only told.
    """
    return [row(one) for one in findings if everything or one.verdict is not Verdict.TOLD]


def conclusion(comparison: Comparison) -> str:
    """The comparison in a line."""
    counts = {verdict: sum(one.verdict is verdict for one in comparison.findings) for verdict in Verdict}
    told = ", ".join(f"{number} {verdict}" for verdict, number in counts.items() if number and verdict != Verdict.TOLD)
    return told or "nothing to judge"


def as_json(comparison: Comparison) -> dict[str, Any]:
    """All of it; means and intervals as they are, in the metrics' units."""
    return {
        "base": str(comparison.base.run_dir),
        "new": str(comparison.new.run_dir),
        "regressions": len(comparison.regressions),
        "confidence": comparison.confidence,
        "findings": [
            {
                "metric": one.point.metric,
                "workload": one.point.workload,
                "system": one.point.system,
                "cores": one.point.cores,
                "unit": one.unit,
                "kind": one.kind,
                "verdict": str(one.verdict),
                "regression": one.verdict.regression,
                "why": one.why,
                "base": one.base,
                "new": one.new,
                "samples": list(one.samples),
                "ratio": one.ratio,
                "interval": [one.interval.low, one.interval.high] if one.interval else None,
                "may_be_worse_by": one.rule.worse if one.rule else None,
            }
            for one in comparison.findings
        ],
    }


def _value(value: float | None, unit: str) -> str:
    return "-" if value is None else f"{figure(value)} {unit}".strip()


def _allowed(found: Finding) -> str:
    if found.rule is None or found.rule.kind == "told":
        return "-"
    slack = f" + {found.rule.slack:g}" if found.rule.slack else ""
    return f"{found.rule.worse:.0%}{slack}"
