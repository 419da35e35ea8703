"""`reconciler graph`."""

from __future__ import annotations

import click

from reconciler.adapters import options
from reconciler.adapters.options import Target


@click.command()
@options.manifests
@options.output("text", "json", "yaml", "dot", "mermaid")
@options.color
def graph(target: Target, output: str) -> None:
    """What refers to what: a tree, or what graphviz and mermaid draw. Needs no network and no key."""
    from reconciler.adapters import manifests
    from reconciler.adapters.output import result
    from reconciler.graph import dependencies
    from reconciler.render import graph as words

    edges = dependencies(manifests.read(target).documents)
    result(
        output,
        lambda: words.graph_json(edges),
        lambda width: words.tree_text(edges),
        dot=lambda: words.dot_text(edges),
        mermaid=lambda: words.mermaid_text(edges),
    )
