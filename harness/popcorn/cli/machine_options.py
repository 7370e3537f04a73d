# SPDX-License-Identifier: Apache-2.0
"""Options and arguments that the verbs on machines share."""

from __future__ import annotations

import click

from popcorn.errors import UserError

name_option = click.option(
    "--name", default="default", show_default=True, metavar="NAME", help="Which machine.", envvar="POPCORN_NAME"
)


def kernel_ids(text: str, known: tuple[int, ...]) -> list[int]:
    """The kernels that an argument names: an id, a list such as 0,8-11, or ``all``.

    Raises:
        UserError: it names none, or one that is not there.
    """
    from popcorn import cpulist

    if text == "all":
        return list(known)
    hint = f"the kernels of this machine are {cpulist.format(known)}"
    try:
        wanted = list(cpulist.parse(text))
    except UserError as error:
        raise UserError(
            f"{text!r} names no kernels: {error}", hint=f"write an id, a list such as 0,8-11, or all; {hint}"
        ) from error
    unknown = [id for id in wanted if id not in known]
    if unknown:
        raise UserError(
            f"there is no kernel {unknown[0]} in this machine",
            hint=hint,
        )
    return wanted
