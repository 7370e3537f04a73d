# SPDX-License-Identifier: Apache-2.0
"""Typed descriptions of machines, read from TOML."""

from popcorn.config.machine import Cpu, Device, Machine, Node, Range
from popcorn.config.machines import load_machine, machine_names

__all__ = ["Cpu", "Device", "Machine", "Node", "Range", "load_machine", "machine_names"]
