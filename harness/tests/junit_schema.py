# SPDX-License-Identifier: Apache-2.0
"""What a JUnit report may hold: the rules of the schema that Jenkins' xUnit plugin applies (its junit-10.xsd).

Other readers take more; a report that keeps to these rules is read by all.
"""

from __future__ import annotations

import re
from pathlib import Path
from xml.etree import ElementTree

_TEXT = ((), (), ())
_VERDICT = ((), ("type", "message"), ())
_COUNTED = ("tests", "failures", "errors")
# Element: what may stand in it, its attributes, and those that must be there.
_RULES: dict[str, tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]] = {
    "testsuites": (("testsuite",), ("name", "time", *_COUNTED), ()),
    "testsuite": (
        ("testsuite", "properties", "testcase", "system-out", "system-err"),
        (
            *("name", "time", "skipped", "timestamp", "hostname", "id", "package", "group", "file", "log", "url"),
            *_COUNTED,
        ),
        ("name", *_COUNTED),
    ),
    "testcase": (
        ("skipped", "error", "failure", "system-out", "system-err"),
        ("name", "time", "classname", "group"),
        ("name",),
    ),
    "properties": (("property",), (), ()),
    "property": ((), ("name", "value"), ("name", "value")),
    "skipped": _VERDICT,
    "error": _VERDICT,
    "failure": _VERDICT,
    "system-out": _TEXT,
    "system-err": _TEXT,
}
_TIME = re.compile(r"[0-9,]*(\.[0-9]*)?")


def complaints(report: Path) -> list[str]:
    """What a report has that it may not have, or has not and must; also counts that do not add up."""
    root = ElementTree.parse(report).getroot()
    found = [] if root.tag in ("testsuites", "testsuite") else [f"the root is {root.tag}"]
    for element in root.iter():
        if element.tag not in _RULES:
            found.append(f"unknown element {element.tag}")
            continue
        children, attributes, required = _RULES[element.tag]
        found += [f"{child.tag} in {element.tag}" for child in element if child.tag not in children]
        found += [f"attribute {name} of {element.tag}" for name in element.attrib if name not in attributes]
        found += [f"{element.tag} without {name}" for name in required if name not in element.attrib]
        if not _TIME.fullmatch(element.get("time", "")):
            found.append(f"time {element.get('time')!r} of {element.tag}")
    for suite in root.iter("testsuite"):
        cases = suite.findall("testcase")
        for name, tag in (("failures", "failure"), ("errors", "error"), ("skipped", "skipped")):
            count = sum(case.find(tag) is not None for case in cases)
            if int(suite.get(name, "0")) != count:
                found.append(f"{suite.get('name')} tells {suite.get(name)} {name} and has {count}")
        if int(suite.get("tests", "0")) != len(cases):
            found.append(f"{suite.get('name')} tells {suite.get('tests')} tests and has {len(cases)}")
    return found
