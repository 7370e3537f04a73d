# SPDX-License-Identifier: Apache-2.0
"""Talking to the kernels of a machine.

ssh      commands and files in the primary
run      commands in any kernel
console  a terminal on any kernel
"""
