"""A verdict to JUnit XML: a test case for each route with its numbers as properties, failed where something is new."""

from __future__ import annotations

import re
from typing import Final
from xml.etree.ElementTree import Element, SubElement, indent, tostring

from querytoll.suite.results import Traffic
from querytoll.suite.verdict import Verdict

_FORBIDDEN: Final = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def to_junit(verdict: Verdict) -> str:
    """Return a `testsuites` document."""
    traffic = {**verdict.results.tests, **verdict.results.routes}
    told = _told(verdict)
    names = sorted({*traffic, *told})
    failures = str(len(told))
    root = Element("testsuites", name="querytoll", tests=str(len(names)), failures=failures)
    suite = SubElement(root, "testsuite", name="querytoll", tests=str(len(names)), failures=failures, errors="0")
    for name in names:
        _case(suite, name, traffic.get(name), told.get(name, []))
    indent(root)
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{tostring(root, encoding="unicode")}\n'


def _told(verdict: Verdict) -> dict[str, list[str]]:
    """What is wrong with each route; a finding is told at the first of its routes."""
    told: dict[str, list[str]] = {}
    for change in verdict.failing:
        told.setdefault(change.name, []).append(str(change))
    for found in verdict.new if verdict.strict else ():
        text = f"{found.rule}: {found.title}\nat {found.place} in {found.function}\nfix: {found.advice}"
        told.setdefault(found.routes[0] if found.routes else found.place, []).append(text)
    return told


def _case(suite: Element, name: str, traffic: Traffic | None, told: list[str]) -> None:
    seconds = f"{traffic.seconds:.6f}" if traffic is not None else "0"
    case = SubElement(suite, "testcase", classname="querytoll", name=_legal(name), time=seconds)
    if traffic is not None:
        numbers = {"requests": traffic.requests, "statements": traffic.statements, "database_seconds": seconds}
        properties = SubElement(case, "properties")
        for key, value in numbers.items():
            SubElement(properties, "property", name=f"querytoll_{key}", value=str(value))
    if told:
        failure = SubElement(case, "failure", message=_legal(told[0].partition("\n")[0]), type="querytoll")
        failure.text = _legal("\n\n".join(told))


def _legal(text: str) -> str:
    return _FORBIDDEN.sub("?", text)
