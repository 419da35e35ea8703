"""`reconciler completion`."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print the completion script of a shell.

    \b
    bash: source <(reconciler completion bash)
    zsh:  source <(reconciler completion zsh)
    fish: reconciler completion fish | source
    """
    from reconciler.adapters.cli import cli

    script = get_completion_class(shell)
    assert script is not None
    click.echo(script(cli, {}, "reconciler", "_RECONCILER_COMPLETE").source())
