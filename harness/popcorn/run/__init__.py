# SPDX-License-Identifier: Apache-2.0
"""A recorded use of a booted machine: what it was (manifest) and what it gave (results).

The consoles and events in the same folder are written by the machine's recorder.
"""
