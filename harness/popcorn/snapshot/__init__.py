# SPDX-License-Identifier: Apache-2.0
"""Saving whole machines with all their kernels, and going on from there.

QEMU writes the state of CPUs and devices (a migration without memory); the memory is written here, from outside:
each distinct page once, as all kernels of a machine hold much the same. See `file` for the format, `shelf` for where
snapshots lie, `inputs` for what a snapshot has to agree with, `save` and `restore` for the two ways.
"""
