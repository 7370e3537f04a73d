#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# A test program that prints KTAP, as those of the kernel's tools/testing/selftests do.
echo "TAP version 13"
echo "1..3"
if [ "$(nproc)" = "$(grep -c ^processor /proc/cpuinfo)" ]; then echo "ok 1 cpus"; else echo "not ok 1 cpus"; fi
if [ -r /proc/popcorn/self ]; then echo "ok 2 popcorn"; else echo "not ok 2 popcorn"; fi
if [ -e /dev/dri ]; then echo "ok 3 graphics"; else echo "ok 3 graphics # SKIP no such device"; fi
