# SPDX-License-Identifier: Apache-2.0
"""A file from the web, whole and with the expected content, or not at all."""

from __future__ import annotations

import hashlib
import http.client
import urllib.error
import urllib.request
from pathlib import Path

from popcorn.errors import HostError
from popcorn.progress import step

_CHUNK_BYTES = 1 << 18
_SILENCE_S = 30.0


class UnreachableError(HostError):
    """A file cannot be had from where it is."""


def download(url: str, target: Path, sha256: str) -> None:
    """Write what a URL holds to a file, which is there afterwards only if all of it came and has the hash.

    Raises UnreachableError when it does not come or stops coming, HostError when it is something else.
    """
    partial = target.with_name(target.name + ".partial")
    digest = hashlib.sha256()
    try:
        with (
            step(f"downloading {url}") as progress,
            urllib.request.urlopen(url, timeout=_SILENCE_S) as answer,
            partial.open("wb") as out,
        ):
            expected_bytes = int(answer.headers.get("Content-Length") or 0)
            while chunk := answer.read(_CHUNK_BYTES):
                digest.update(chunk)
                out.write(chunk)
                progress.update(_so_far(out.tell(), expected_bytes))
            if out.tell() < expected_bytes:
                raise UnreachableError(f"{url} broke off after {out.tell()} of {expected_bytes} bytes")
        if digest.hexdigest() != sha256:
            raise HostError(
                f"{url} is not what it should be: expected sha256 {sha256}, found {digest.hexdigest()}",
                hint="something on the way changes what is downloaded; a proxy's error page, for example",
            )
        partial.rename(target)
    except (urllib.error.URLError, http.client.HTTPException, TimeoutError, ConnectionError) as error:
        # HTTPError says more than its reason, its parent nothing but its reason.
        reason = error.reason if type(error) is urllib.error.URLError else error
        reason = getattr(reason, "strerror", None) or reason
        raise UnreachableError(f"{url} cannot be had: {reason}") from error
    finally:
        partial.unlink(missing_ok=True)


def _so_far(count_bytes: int, expected_bytes: int) -> str:
    done = f"{count_bytes / 2**20:.1f}"
    return f"{done} of {expected_bytes / 2**20:.1f} MiB" if expected_bytes else f"{done} MiB"
