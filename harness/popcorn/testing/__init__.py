# SPDX-License-Identifier: Apache-2.0
"""Tests on booted machines by pytest; `popcorn.testing.plugin` is what pytest loads."""

from popcorn.testing.kernel import Everywhere, Kernel, KernelById
from popcorn.testing.need import EVERY_SERIES, MIXED
from popcorn.testing.pool import Pool

__all__ = ["EVERY_SERIES", "MIXED", "Everywhere", "Kernel", "KernelById", "Pool"]
