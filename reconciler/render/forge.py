"""Mistakes for the pages of a forge: SARIF 2.1.0 for its code view, JUnit XML for its list of tests."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any
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
    """A suite for each source: a failed case for each error, one that passed where there is none; warnings beside it.

    ASCII, so that it is what its first line says whatever the terminal holds.
    """
    everything = [finding for findings in sources.values() for finding in findings]
    root = ElementTree.Element("testsuites", {"name": tool, **_counts(everything, sources.values())})
    for source, findings in sources.items():
        name = clean(source)
        suite = ElementTree.SubElement(root, "testsuite", {"name": name, **_counts(findings, [findings])})
        errors = [problem for level, problem in findings if level is Level.ERROR]
        for problem in errors:
            title = ":".join(map(str, problem.at)) if problem.at else name
            title = clean(f"{title} {problem.rule or problem.what}", 300)
            case = ElementTree.SubElement(suite, "testcase", classname=name, name=title)
            failure = ElementTree.SubElement(case, "failure", type=problem.rule or MANIFEST)
            failure.set("message", clean(problem.what, 600))
            failure.text = problem_text(problem)
        if not errors:
            ElementTree.SubElement(suite, "testcase", classname=name, name=name)
        warnings = [f"warning: {problem_text(problem)}" for level, problem in findings if level is Level.WARNING]
        if warnings:
            ElementTree.SubElement(suite, "system-out").text = "\n".join(warnings)
    ElementTree.indent(root)
    text: bytes = ElementTree.tostring(root, encoding="us-ascii", xml_declaration=True)
    return text.decode("ascii")


def _counts(findings: Iterable[Finding], sources: Iterable[Sequence[Finding]]) -> dict[str, str]:
    errors = sum(level is Level.ERROR for level, _ in findings)
    passed = sum(all(level is not Level.ERROR for level, _ in found) for found in sources)
    return {"tests": str(errors + passed), "failures": str(errors), "errors": "0"}
