# SPDX-License-Identifier: Apache-2.0
"""Build, boot, drive and measure many Linux kernels on one machine."""

__version__ = "0.2.0"
