# SPDX-License-Identifier: Apache-2.0
"""What KUnit and kselftest print becomes single results."""

from __future__ import annotations

import time

import pytest

from popcorn.testing.ktap import Result, leaves, parse

_KUNIT = """\
[    0.100000] Linux version 6.12 ok 1 of many
[    0.200000] KTAP version 1
[    0.200000] 1..2
[    0.200000]     KTAP version 1
[    0.200000]     # Subtest: ring
[    0.200000]     # module: popcorn_test
[    0.200000]     1..3
[    0.200000]     ok 1 ring_empty
[    0.200000]         KTAP version 1
[    0.200000]         # Subtest: ring_sizes
[    0.200000]         ok 1 32
[    0.200000]         ok 2 64 # SKIP no room
[    0.200000]     # ring_sizes: pass:1 fail:0 skip:1 total:2
[    0.200000]     ok 2 ring_sizes
[    0.200000]     # ring_full: EXPECTATION FAILED at ring_test.c:12
[    0.200000]     Expected a == b, but
[    0.200000]         a == 1 (0x1)
[    0.200000]     not ok 3 ring_full
[    0.200000] # ring: pass:2 fail:1 skip:0 total:3
[    0.200000] not ok 1 ring
[    0.200000] ok 2 other
[    0.300000] not ok 9 of somebody else's
"""

_KSELFTEST = """\
TAP version 13
1..3
# timeout set to 45
# selftests: net: one
# TAP version 13
# 1..3
# ok 1 bar
# # why it did
# not ok 2 baz
# ok 3 qux # XFAIL known
# # Totals: pass:1 fail:1 xfail:1
not ok 1 selftests: net: one # exit=1
# selftests: net: two
# it needs root
ok 2 selftests: net: two # SKIP
# selftests: net: three
not ok 3 selftests: net: three # TIMEOUT 45 seconds
"""


def _leaves(text: str) -> dict[str, Result]:
    return {"/".join(path): result for path, result in leaves(parse(text.splitlines()))}


def test_kunit_nests_by_indentation() -> None:
    found = _leaves(_KUNIT)
    assert {name: one.status for name, one in found.items()} == {
        "ring/ring_empty": "passed",
        "ring/ring_sizes/32": "passed",
        "ring/ring_sizes/64": "skipped",
        "ring/ring_full": "failed",
        "other": "passed",
    }
    assert found["ring/ring_sizes/64"].remark == "SKIP no room"


def test_what_was_said_before_a_result_is_kept_with_it() -> None:
    found = _leaves(_KUNIT)["ring/ring_full"]
    assert found.diagnostics == (
        "# ring_full: EXPECTATION FAILED at ring_test.c:12",
        "Expected a == b, but",
        "a == 1 (0x1)",
    )


def test_what_stands_before_the_first_version_line_is_no_result() -> None:
    assert parse(["ok 1 a", "not ok 2 b"]) == []


def test_what_follows_all_planned_tests_is_no_result() -> None:
    assert [one.name for one in parse(_KUNIT.splitlines())] == ["ring", "other"]


def test_kselftests_nest_in_comments() -> None:
    found = _leaves(_KSELFTEST)
    assert {name: one.status for name, one in found.items()} == {
        "selftests: net: one/bar": "passed",
        "selftests: net: one/baz": "failed",
        "selftests: net: one/qux": "skipped",
        "selftests: net: two": "skipped",
        "selftests: net: three": "failed",
    }
    assert found["selftests: net: one/baz"].diagnostics == ("# why it did",)
    assert "# it needs root" in found["selftests: net: two"].diagnostics
    assert found["selftests: net: three"].remark == "TIMEOUT 45 seconds"


def test_a_program_that_fails_as_a_whole_fails_though_all_its_parts_pass() -> None:
    found = _leaves("TAP version 13\n1..1\n# TAP version 13\n# 1..1\n# ok 1 a\nnot ok 1 program # exit=139")
    assert {name: one.status for name, one in found.items()} == {"program/a": "passed", "program": "failed"}


def test_tests_that_a_crash_cut_off_are_missing_and_have_the_last_words() -> None:
    cut = [*_KUNIT.splitlines()[:8], "[    0.300000] Oops: general protection fault"]
    found = _leaves("\n".join(cut))
    assert {name: one.status for name, one in found.items()} == {
        "ring/ring_empty": "passed",
        "ring/test 2 to 3 of 3": "missing",
        "test 2 of 2": "missing",
    }
    assert found["ring/test 2 to 3 of 3"].diagnostics == ("Oops: general protection fault",)


def test_a_bail_out_leaves_the_rest_missing() -> None:
    found = _leaves("TAP version 13\n1..2\nok 1 - a\nBail out! no memory")
    assert [one.status for one in found.values()] == ["passed", "missing"]
    assert found["test 2 of 2"].diagnostics == ("Bail out! no memory",)


@pytest.mark.parametrize(
    "text",
    [
        "TAP version 13\nok 1 a\nBail out! no memory",
        "TAP version 13\nBail out! no memory",
        "TAP version 13\n1..1\n# TAP version 13\n# ok 1 a\n# Bail out! no memory\nok 1 program",
    ],
)
def test_a_bail_out_without_a_plan_is_no_success(text: str) -> None:
    (failed,) = [one for one in _leaves(text).values() if one.failed]
    assert (failed.name, failed.status, failed.remark) == ("Bail out!", "failed", "no memory")


@pytest.mark.parametrize("again", ["ok 1 a", "ok 1 b"])
def test_a_test_that_is_told_twice_does_not_stand_for_another(again: str) -> None:
    found = _leaves(f"TAP version 13\n1..2\nok 1 a\n{again}")
    assert found["test 2 of 2"].status == "missing"


def test_a_second_plan_takes_nothing_back() -> None:
    assert _leaves("TAP version 13\n1..2\n1..1\nok 1 a")["test 2 of 2"].status == "missing"


def test_a_hash_sign_that_is_escaped_belongs_to_the_name() -> None:
    (found,) = parse(["TAP version 13", "1..1", r"ok 1 - C\# code # SKIP none"])
    assert (found.name, found.status, found.remark) == ("C# code", "skipped", "SKIP none")


def test_a_number_without_measure_is_none() -> None:
    digits = "9" * 5000
    assert [one.status for one in parse(["TAP version 13", f"1..{digits}", f"ok {digits}", "1..1"])] == ["passed"]


def test_spaces_take_no_longer_to_read_than_letters() -> None:
    """With the square of their number it would be hundreds of times as long."""

    def taken_s(filling: str) -> float:
        began = time.process_time()
        parse(["TAP version 13", *[f"ok {filling * 20_000}x"] * 5])
        return time.process_time() - began

    assert taken_s(" ") < 50 * max(taken_s("y"), 1e-4)


def test_documents_may_follow_each_other() -> None:
    two = "KTAP version 1\n1..1\nok 1 a\nKTAP version 1\n1..2\nok 1 b\nok 2 c"
    assert list(_leaves(two)) == ["a", "b", "c"]


def test_each_document_has_a_plan_of_its_own() -> None:
    found = _leaves("KTAP version 1\n1..1\nok 1 a\nKTAP version 1\n1..2\nok 1 b")
    assert list(found) == ["a", "b", "test 2 of 2"]


def test_nothing_to_test_is_no_failure() -> None:
    assert parse(["TAP version 13", "1..0 # SKIP no hardware"]) == []
