"""`reconciler version`."""

from __future__ import annotations

import platform
from collections.abc import Sequence

import click

from reconciler import __version__
from reconciler.adapters import options


@click.command()
@options.output("text", "json", "yaml")
def version(output: str) -> None:
    """Versions of the program, the interpreter, the manifests' API and the catalogue."""
    from reconciler import catalogue
    from reconciler.adapters.output import result
    from reconciler.resource import API_VERSION

    facts = {
        "reconciler": __version__,
        "python": platform.python_version(),
        "api_version": API_VERSION,
        "catalogue": str(catalogue.load().date),
        "profiles": list(catalogue.load().profiles),
    }
    result(output, lambda: facts, lambda width: "\n".join(f"{name:13}{_word(value)}" for name, value in facts.items()))


def _word(value: Sequence[str]) -> str:
    return value if isinstance(value, str) else ", ".join(value)
