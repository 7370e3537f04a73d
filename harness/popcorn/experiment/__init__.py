# SPDX-License-Identifier: Apache-2.0
"""Experiments: systems × workloads × cores × iterations, taken in random order, recorded one by one.

`protocols` says what a system and a workload are; `systems` and `workloads` are those that come with
Popcorn. A new one is a class that fits the protocol and a line in the table of its package.
"""
