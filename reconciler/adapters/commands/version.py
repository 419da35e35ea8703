"""`reconciler version`."""

from __future__ import annotations

import platform

import click

from reconciler import __version__
from reconciler.adapters import options


@click.command()
@options.output("text", "json")
def version(output: str) -> None:
    """Versions of the program, the interpreter, the manifests' API and the catalogue."""
    from reconciler import catalogue
    from reconciler.render.data import json_text
    from reconciler.resource import API_VERSION

    facts = {
        "reconciler": __version__,
        "python": platform.python_version(),
        "apiVersion": API_VERSION,
        "catalogue": str(catalogue.load().date),
        "profiles": ", ".join(catalogue.load().profiles),
    }
    text = "\n".join(f"{name:12}{value}" for name, value in facts.items())
    click.echo(json_text(facts) if output == "json" else text)
