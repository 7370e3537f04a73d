# SPDX-License-Identifier: Apache-2.0
# Runs COMMAND so many times at once, from a given time on, between two looks at what the kernel counts.
# usage: sh -c "$(cat launch.sh)" sh COPIES START "FILE…" COMMAND [ARGUMENT…]
# START is in hundredths of a second by the host's clock; /tmp/popcorn-clock holds what that clock is ahead of
# /proc/uptime. 0: at once. What follows is told in parts: "@@@ NAME VALUE…", and then what belongs to it.
copies=$1 start=$2 files=$3
shift 3
look() { for file in $files; do echo "@@ $file"; cat "$file" 2>/dev/null; done; }
mark() { [ ! -x /usr/bin/popcorn-mark ] || /usr/bin/popcorn-mark; }
clock() { read -r up rest </proc/uptime; now=${up%.*}${up#*.}; now=${now#0}; }
before=$(look)
late=0
if [ "$start" -gt 0 ]; then
    read -r ahead </tmp/popcorn-clock
    start=$((start - ahead))
    clock
    late=$((now - start))
    if [ $late -lt -8 ]; then
        left=$((-late - 5))
        hundredths=$((left % 100))
        [ $hundredths -gt 9 ] || hundredths=0$hundredths
        sleep $((left / 100)).$hundredths
    fi
    while clock; [ "$now" -lt "$start" ]; do sleep 0.01; done
fi
# What children that were waited for have cost is in the shell's own line.
read -r cost_before </proc/$$/stat
clock
begun=$now
mark
copy=0
while [ $copy -lt "$copies" ]; do
    "$@" >/tmp/copy.$copy.out 2>/tmp/copy.$copy.err &
    pids="$pids $!"
    copy=$((copy + 1))
done
for pid in $pids; do
    wait "$pid"
    statuses="$statuses $?"
done
mark
clock
ran=$((now - begun))
read -r cost_after </proc/$$/stat
after=$(look)
echo "@@@ late $late"
echo "@@@ ran $ran"
copy=0
for status in $statuses; do
    echo "@@@ status $copy $status"
    echo "@@@ stdout $copy"
    cat /tmp/copy.$copy.out
    echo
    echo "@@@ stderr $copy"
    cat /tmp/copy.$copy.err
    echo
    rm -f /tmp/copy.$copy.out /tmp/copy.$copy.err
    copy=$((copy + 1))
done
echo "@@@ cost"
echo "$cost_before"
echo "$cost_after"
echo "@@@ before"
echo "$before"
echo "@@@ after"
echo "$after"
echo "@@@ end"
