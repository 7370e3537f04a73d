# SPDX-License-Identifier: Apache-2.0
"""``popcorn worker``"""

from __future__ import annotations

import click


@click.command()
@click.argument("address", metavar="ADDRESS")
@click.option("--serve", is_flag=True, help="Be the scheduler at ADDRESS as well.")
def worker(address: str, serve: bool) -> None:
    """Take trials of others' `popcorn run --scheduler ADDRESS`, one boot at a time, until interrupted.

    ADDRESS is a Dask scheduler's, e.g. tcp://127.0.0.1:8786. Who can reach it can run programs as
    its workers' users: serve on a network that you trust, or set up TLS (distributed.comm in Dask's
    configuration).
    """
    import asyncio
    import contextlib
    import logging
    import os
    import platform
    import signal
    import tempfile
    from urllib.parse import urlparse

    from distributed import Scheduler, Worker

    from popcorn import hostpackages
    from popcorn.ending import EndedError
    from popcorn.errors import UserError
    from popcorn.run.manifest import code_commit

    where = urlparse(address)
    try:
        host, port = where.hostname, where.port
    except ValueError:
        host = port = None
    if where.scheme not in ("tcp", "tls") or not host or not port:
        raise UserError(f"{address} is no address of a scheduler", hint="write e.g. tcp://127.0.0.1:8786")

    # Whatever it will be asked for.
    for verb in ("up", "run vm"):
        hostpackages.ensure(verb)

    logging.getLogger("distributed").setLevel(logging.ERROR)
    click.echo(f"popcorn: working for {address} as soon as it answers; Ctrl-C ends it", err=True)

    # As it is now, and not when the first job comes.
    code_commit()

    ended: list[int] = []

    async def work() -> None:
        # An exception out of a signal's handler would hit whatever Dask does at that moment.
        task = asyncio.current_task()
        assert task is not None

        def end(number: int) -> None:
            ended.append(number)
            task.cancel()

        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            if signal.getsignal(number) is not signal.SIG_IGN:
                asyncio.get_running_loop().add_signal_handler(number, end, number)
        async with contextlib.AsyncExitStack() as stack:
            if serve:
                await stack.enter_async_context(Scheduler(host=host, port=port, protocol=where.scheme, dashboard=False))
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="popcorn-worker-"))
            name = f"{platform.node()}-{os.getpid()}"
            one = await stack.enter_async_context(
                Worker(address, nthreads=1, name=name, local_directory=folder, dashboard=False)
            )
            click.echo(f"popcorn: {name} is at work", err=True)
            await one.finished()

    try:
        asyncio.run(work())
    except asyncio.CancelledError:
        raise EndedError(ended[0]) from None
    except OSError as error:
        raise UserError(f"cannot serve at {address}: {error}", hint="name a free port of this host") from error
