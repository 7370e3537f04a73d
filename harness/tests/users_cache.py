# SPDX-License-Identifier: Apache-2.0
"""The user's own cache, for what takes long and follows from its inputs: sources, and programs built from them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

VARIABLE = "POPCORN_CACHE"
REMEMBERED = "remembered"
"""The property of a test that answers from the cache: what of it was done before. The summary tells of them."""

# This is imported before any test has a cache of its own.
_USERS = os.environ.get(VARIABLE)


def take_users_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    """As popcorn is told of the cache when the user calls it."""
    if _USERS is None:
        monkeypatch.delenv(VARIABLE, raising=False)
    else:
        monkeypatch.setenv(VARIABLE, _USERS)


@contextmanager
def users_cache_taken() -> Iterator[None]:
    """For what many tests share, whichever of them comes first."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        take_users_cache(monkeypatch)
        yield
