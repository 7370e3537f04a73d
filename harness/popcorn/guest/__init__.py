# SPDX-License-Identifier: Apache-2.0
"""Talking to the kernels of a machine.

run      commands in any kernel, over the network or by its terminal line
login    the user's terminal or streams in any kernel, over the network
copy     files to and from any kernel
console  a terminal on any kernel, without the network
"""
