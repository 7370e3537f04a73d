# SPDX-License-Identifier: Apache-2.0
"""Plain tables on stdout: columns that line up, nothing else, so that other programs can read them."""

from __future__ import annotations

from collections.abc import Sequence

import click


def print_table(header: Sequence[str], rows: Sequence[Sequence[str]], right: frozenset[str] = frozenset()) -> None:
    """Print rows under a header.

    Args:
        right: columns that hold numbers.
    """
    widths = [max(len(row[column]) for row in [header, *rows]) for column in range(len(header))]
    for row in [header, *rows]:
        cells = [
            cell.rjust(width) if name in right else cell.ljust(width)
            for name, cell, width in zip(header, row, widths, strict=True)
        ]
        click.echo("  ".join(cells).rstrip())
