"""`reconciler graph`."""

from __future__ import annotations

import click

from reconciler.adapters import options
from reconciler.adapters.options import Target


@click.command()
@options.manifests
@options.output("text", "dot", "mermaid", "json")
@options.color
def graph(target: Target, output: str) -> None:
    """What refers to what: a tree, or what graphviz and mermaid draw. Needs no network and no key."""
    from reconciler.adapters import stack, terminal
    from reconciler.graph import dependencies
    from reconciler.render import graph as words
    from reconciler.render.data import json_text

    edges = dependencies(stack.read(target).documents)
    match output:
        case "dot":
            terminal.say(words.dot_text(edges))
        case "mermaid":
            terminal.say(words.mermaid_text(edges))
        case "json":
            terminal.say(json_text({address: list(wanted) for address, wanted in edges.items()}))
        case _:
            terminal.say(words.tree_text(edges))
