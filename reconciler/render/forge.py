"""Mistakes for the pages of a forge: SARIF 2.1.0 for its code view, JUnit XML for its list of tests."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote
from xml.etree import ElementTree

from reconciler import __version__
from reconciler.errors import Problem
from reconciler.findings import RULES, Level
from reconciler.render.errors import problem_text
from reconciler.render.words import clean

Finding = tuple[Level, Problem]
MANIFEST = "manifest"  # the rule of what is no rule of lint: a code view asks for one
_ABOUT = {name: (rule.about, rule.level) for name, rule in RULES.items()}
_ABOUT |= {MANIFEST: ("manifests and the files they name can be carried out", Level.ERROR)}


def sarif(tool: str, findings: Iterable[Finding]) -> dict[str, Any]:
    """A SARIF log of one run."""
    rules = [
        {"id": name, "shortDescription": {"text": about}, "defaultConfiguration": {"level": level}}
        for name, (about, level) in _ABOUT.items()
    ]
    return {
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "version": "2.1.0",
        "runs": [
            {
                "tool": {"driver": {"name": tool, "semanticVersion": __version__, "rules": rules}},
                "columnKind": "unicodeCodePoints",
                "results": [_result(level, problem) for level, problem in findings],
            }
        ],
    }


def _result(level: Level, problem: Problem) -> dict[str, Any]:
    text = problem.what + (f" ({problem.hint})" if problem.hint else "")
    rule = problem.rule or MANIFEST
    result: dict[str, Any] = {"level": level, "message": {"text": clean(text, 1000)}}
    result |= {"ruleId": rule, "ruleIndex": list(_ABOUT).index(rule)}
    if problem.at:
        region = {"startLine": problem.at.line, "startColumn": problem.at.column}
        where = {"artifactLocation": {"uri": _uri(problem.at.file)}, "region": region}
        result["locations"] = [{"physicalLocation": where}]
    return result


def _uri(file: str) -> str:
    """A path as a reference of its own, or as a URI of the whole where it is absolute."""
    path = Path(file)
    return path.as_uri() if path.is_absolute() else quote(path.as_posix())


def by_file(files: Iterable[str], findings: Iterable[Finding]) -> dict[str, list[Finding]]:
    """Findings under the files they are in, also those `files` that have none."""
    sources: dict[str, list[Finding]] = {file: [] for file in files}
    for level, problem in findings:
        sources.setdefault(problem.at.file if problem.at else "manifests", []).append((level, problem))
    return sources


def junit(tool: str, sources: Mapping[str, Sequence[Finding]]) -> str:
    """A suite for each source: a failed case for each error, else one that passed; warnings beside them."""
    return suites_text(tool, [_suite(source, findings) for source, findings in sources.items()])


def _suite(source: str, findings: Sequence[Finding]) -> Suite:
    cases = [_case(source, problem) for level, problem in findings if level is Level.ERROR]
    warnings = [f"warning: {problem_text(problem)}" for level, problem in findings if level is Level.WARNING]
    return Suite(source, cases or [Case(source)], "\n".join(warnings))


def _case(source: str, problem: Problem) -> Case:
    title = f"{':'.join(map(str, problem.at)) if problem.at else source} {problem.rule or problem.what}"
    return Case(title, Failure(problem.rule or MANIFEST, problem.what, problem_text(problem)))


class Failure(NamedTuple):
    """What sort it is of, in a line, and the whole of it as it may be shown."""

    sort: str
    what: str
    text: str


class Case(NamedTuple):
    """One test, passed or not. A forge compares it by its name with that of earlier reports."""

    name: str
    failure: Failure | None = None


class Suite(NamedTuple):
    """Tests of one thing, and what is told beside them."""

    name: str
    cases: Sequence[Case]
    beside: str = ""


def suites_text(tool: str, suites: Sequence[Suite]) -> str:
    """JUnit XML, in ASCII, so that it is what its first line says whatever the terminal holds."""
    root = ElementTree.Element("testsuites", {"name": tool, **_counts(suites)})
    for one in suites:
        name = clean(one.name)
        suite = ElementTree.SubElement(root, "testsuite", {"name": name, **_counts([one])})
        for case, failure in one.cases:
            tested = ElementTree.SubElement(suite, "testcase", classname=name, name=clean(case, 300))
            if failure:
                told = {"type": failure.sort, "message": clean(failure.what, 600)}
                ElementTree.SubElement(tested, "failure", told).text = failure.text
        if one.beside:
            ElementTree.SubElement(suite, "system-out").text = one.beside
    ElementTree.indent(root)
    text: bytes = ElementTree.tostring(root, encoding="us-ascii", xml_declaration=True)
    return text.decode("ascii")


def _counts(suites: Sequence[Suite]) -> dict[str, str]:
    cases = [case for suite in suites for case in suite.cases]
    failed = sum(case.failure is not None for case in cases)
    return {"tests": str(len(cases)), "failures": str(failed), "errors": "0"}
