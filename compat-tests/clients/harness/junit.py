"""JUnit XML: stamped with suite and version, or made of libtest's output.

The shape that `compat-tests/report` reads. Which suites there are is not known here.
"""

import re
import xml.etree.ElementTree as xml

RESULT = re.compile(r"^test (.+?)(?: - should panic)? \.\.\. (ok|FAILED|ignored)(?:, (.*))?$")


def stamp(path, suite, version):
    """Notes what was run, and of which version, in a report that a test runner has written."""
    tree = xml.parse(path)
    root = tree.getroot()
    if root.tag != "testsuites":  # one suite alone is wrapped
        outer = xml.Element("testsuites")
        outer.append(root)
        root, tree = outer, xml.ElementTree(outer)
    root.set("name", suite)
    root.set("version", version)
    tree.write(path, encoding="utf-8", xml_declaration=True)


def results(lines):
    """(name, result, reason) of each test that libtest tells of."""
    return [match.groups() for match in map(RESULT.match, lines) if match]


def from_libtest(path, suite, output):
    """Writes a report of libtest's output."""
    root = xml.Element("testsuites")
    group = xml.SubElement(root, "testsuite", name=suite)
    for name, result, reason in results(output.splitlines()):
        case = xml.SubElement(group, "testcase", name=name, classname=suite)
        if result == "FAILED":
            xml.SubElement(case, "failure", message="see the output of the run")
        elif result == "ignored":
            xml.SubElement(case, "skipped", message=reason or "")
    xml.ElementTree(root).write(path, encoding="utf-8", xml_declaration=True)


def failures(path):
    """How many cases of a report failed, and how many there are."""
    cases = list(xml.parse(path).iter("testcase"))
    failed = [c for c in cases if c.find("failure") is not None or c.find("error") is not None]
    return len(failed), len(cases)


def broken(path, suite, why):
    """A report of a suite that did not come to its tests."""
    root = xml.Element("testsuites")
    group = xml.SubElement(root, "testsuite", name=suite)
    case = xml.SubElement(group, "testcase", name="the suite runs", classname=suite)
    xml.SubElement(case, "error", message=why)
    xml.ElementTree(root).write(path, encoding="utf-8", xml_declaration=True)
