# SPDX-License-Identifier: Apache-2.0
"""Which function a report is about: from the registers and stack traces that kernels print."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

# "func+0x12/0x34", as 3.2 prints it with an address before: "[<ffffffff81000000>] func+0x12/0x34".
_PLACE = re.compile(r"([A-Za-z_][\w.$]*)\+0x([0-9a-f]+)/0x([0-9a-f]+)")
_FRAME = re.compile(
    r"\s*(?:<[A-Z#/]+>\s+)?(?:\[<[0-9a-f]+>\]\s+)?(?P<guess>\? )?(?P<place>[A-Za-z_][\w.$]*\+0x[0-9a-f]+/0x[0-9a-f]+)"
)
# Only in kernel mode: a trace ends with the registers of the program that called.
_RIP = re.compile(r"(?:RIP: 0010:|RIP |IP: )\s*(?:\[<[0-9a-f]+>\]\s*)*(?P<rest>.*)")
_TRACE = re.compile(r"\s*(Call Trace:|stack backtrace:|Call trace:)")
_NOWHERE = re.compile(r"(?:\[<\s*\(null\)|\(null\)|0x[0-9a-f]+$|Bad RIP|$)")
# What the compiler makes of one function, in names that change from build to build.
_PARTS = re.compile(r"\.(?:isra|constprop|part|cold|llvm)\b.*$")

# Functions that report, wait or interrupt: never what a report is about.
_MACHINERY = re.compile(
    r"_?_?dump_stack|show_(?:stack|regs|trace)|sched_show_task|nmi_|trigger_|arch_trigger|printk|_printk|vprintk"
    r"|v?panic|oops_|die\b|__die|no_context|bad_area|__bad_area|page_fault_oops|kernelmode_fixup|do_kern_addr_fault"
    r"|do_user_addr_fault|(?:asm_)?exc_|(?:do_)?page_fault|do_page_fault|async_page_fault|error_(?:entry|return|exit)"
    r"|do_trap|do_error_trap|do_invalid_op|invalid_op|do_general|general_protection|do_double|double_fault"
    r"|handle_(?:bug|stack_overflow)|report_bug|__warn|warn_slowpath|__report_bug|_sub_I"
    r"|__?might_(?:sleep|resched)|__might_|schedule_bug|__schedule|schedule|preempt_schedule|io_schedule|cond_resched"
    r"|__cond_resched|_cond_resched"
    r"|(?:kasan|__kasan|__asan|ubsan|__ubsan|kfence|print_(?:report|address))|check_region_inline|handle_overflow"
    r"|(?:print|check)_.*(?:bug|lock|deadlock|usage)|(?:__)?lock_(?:acquire|release)|lockdep_|mark_(?:lock|held)"
    r"|validate_chain|debug_check|debug_(?:mutex|spin)|rcu_|__rcu|invoke_rcu|note_gp"
    r"|(?:update_process|tick_|hrtimer_|__hrtimer|run_(?:local_)?timers?|__run_hrtimer|call_timer_fn)"
    r"|(?:watchdog|softlockup|is_softlockup|perf_event_overflow|__perf_event|hung_task)"
    r"|(?:(?:__)?sysvec_|asm_sysvec_|(?:smp_)?(?:local_)?apic_timer|local_apic|reschedule_|call_function|common_interrupt)"
    r"|ret_from_intr|retint_|do_IRQ|irq_(?:enter|exit)|__irq_exit|handle_irq|(?:__)?do_softirq|handle_softirqs|call_softirq"
    r"|native_(?:queued_)?spin|queued_|pv_|_?_?raw_(?:spin|read|write)_|do_raw_|_spin_|_(?:read|write)_lock|arch_spin"
    r"|(?:__)?(?:const_)?u?delay|delay_(?:tsc|loop)|native_(?:safe_halt|halt|irq)|cpu_relax|rep_nop|default_idle"
    r"|(?:__|native_)?(?:flush_tlb|smp_call)|generic_exec_single|csd_|stop_machine"
    r"|wait_(?:for|on)|__wait|do_wait_for|(?:__)?(?:down|up)(?:_|\b)|rwsem_|__?rwsem|(?:__)?mutex_|(?:ww_)?mutex_"
    r"|msleep|(?:__)?schedule_|(?:out_of_memory|oom_|dump_header|pagefault_out)|list_(?:add|del)|__list_(?:add|del)"
)


def base_name(function: str) -> str:
    """The name that the source gives a function."""
    return _PARTS.sub("", function)


def faulting(texts: Sequence[str]) -> str | None:
    """The function that executed when a fault was taken; the caller's where that jumped to nowhere."""
    for text in texts:
        if found := _RIP.match(text):
            if place := _PLACE.match(found["rest"].strip()):
                return base_name(place[1])
            if _NOWHERE.match(found["rest"].strip()):
                return called_from(texts)
    return called_from(texts)


def jumped_nowhere(texts: Sequence[str]) -> bool:
    """Whether the fault is that of fetching an instruction where there is none."""
    rips = (_RIP.match(text) for text in texts)
    first = next((rip for rip in rips if rip), None)
    return first is not None and bool(_NOWHERE.match(first["rest"].strip()))


def called_from(texts: Sequence[str]) -> str | None:
    """The innermost function of the first trace that is no mere machinery; a guessed one if there is no other."""
    frames = list(_trace(texts))
    for guesses in (False, True):
        for guess, function in frames:
            if guess == guesses and not _MACHINERY.match(function):
                return base_name(function)
    return None


def working(texts: Sequence[str]) -> str | None:
    """What a CPU did that gets nowhere: where it was, or who called when that only waits."""
    for text in texts:
        found = _RIP.match(text)
        place = _PLACE.match(found["rest"].strip()) if found else None
        if place and not _MACHINERY.match(place[1]):
            return base_name(place[1])
        if place:
            break
    return called_from(texts)


def frame_function(text: str) -> str | None:
    """The function of a line of a stack trace; None for another line."""
    found = _FRAME.match(text)
    return found["place"].partition("+")[0] if found else None


def is_machinery(function: str) -> bool:
    """Whether a function reports, waits or interrupts, so that it tells nothing."""
    return bool(_MACHINERY.match(function))


def named(text: str) -> str | None:
    """The first function that a line names."""
    found = _PLACE.search(text)
    return base_name(found[1]) if found else None


def _trace(texts: Sequence[str]) -> Iterator[tuple[bool, str]]:
    inside = False
    for text in texts:
        if _TRACE.match(text):
            if inside:
                return
            inside = True
        elif inside and (found := _FRAME.match(text)):
            place = _PLACE.match(found["place"])
            assert place is not None
            yield bool(found["guess"]), place[1]
