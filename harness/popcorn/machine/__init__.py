# SPDX-License-Identifier: Apache-2.0
"""A live machine: QEMU and its memory, started, watched and stopped.

qemu        the QEMU command line, from one typed description
memory      the machine's RAM, held by the host beside QEMU
layout      the shared region, read through the kernel's header
recorder    consoles and states of all kernels, followed from outside
supervisor  the process that owns a machine
registry    machines by name
boot        up(): from a plan to a running machine
machine     Machine: what can be done with one that runs
kvm         whether KVM really works here
"""
