"""Errors and problems as a person reads them: what, where, what next."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from reconciler.errors import ManifestError, Problem, ReconcilerError, StalePlan
from reconciler.render.words import clean, count

REASONS_MAX = 20


def error_text(error: ReconcilerError) -> str:
    """Everything an error has to say; of wrong manifests every problem, then how many."""
    if isinstance(error, ManifestError):
        return f"{problems_text(error.problems)}\n{count(len(error.problems), 'problem')}"
    lines = [f"error: {clean(error, 600)}"]
    if isinstance(error, StalePlan):
        lines += [f"  {clean(reason, 600)}" for reason in error.reasons[:REASONS_MAX]]
        more = len(error.reasons) - REASONS_MAX
        lines += [f"  and {count(more, 'more reason')}"] if more > 0 else []
    if error.hint:
        lines.append(f"  {clean(error.hint, 400)}")
    return "\n".join(lines)


def problems_text(problems: Iterable[Problem]) -> str:
    return "\n".join(map(problem_text, problems))


def problem_text(problem: Problem) -> str:
    """`file:line:column  what (hint)`."""
    return clean(problem, 600)


def warnings_text(warnings: Iterable[Problem]) -> str:
    return "\n".join(f"warning: {problem_text(warning)}" for warning in warnings)


def validated_json(documents: int, problems: Iterable[Problem], warnings: Iterable[Problem]) -> dict[str, Any]:
    """What checking the manifests came to; `documents` is 0 where they have problems."""
    told = [problem_json(one) for one in problems]
    return {
        "ok": not told,
        "documents": documents,
        "problems": told,
        "warnings": [problem_json(one) for one in warnings],
    }


def problem_json(problem: Problem) -> dict[str, Any]:
    """The same for programs."""
    at = problem.at._asdict() if problem.at else None
    return {"what": problem.what, "at": at, "hint": problem.hint}
