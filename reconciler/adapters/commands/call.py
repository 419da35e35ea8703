"""`reconciler call`."""

from __future__ import annotations

import click

from reconciler.adapters import options
from reconciler.adapters.options import Target

PROMPT_CHARACTERS_MAX = 200_000


@click.command()
@click.argument("address", metavar="KIND/NAME")
@click.argument("prompt")
@options.service
@options.color
def call(target: Target, address: str, prompt: str) -> int:
    """Put one PROMPT (- reads it from stdin) to the deployment in use and print its answer. An answer costs tokens."""
    import sys

    from reconciler import engine
    from reconciler.adapters import inventory, stack, terminal
    from reconciler.errors import UsageError
    from reconciler.render.words import clean
    from reconciler.state import Role

    if prompt == "-":
        if "-" in target.files:
            raise UsageError("stdin cannot be both the manifests and the prompt")
        prompt = sys.stdin.read(PROMPT_CHARACTERS_MAX + 1)
    if not prompt.strip() or len(prompt) > PROMPT_CHARACTERS_MAX:
        raise UsageError("the prompt is empty" if not prompt.strip() else "the prompt is too long")
    with stack.opened(target) as opened:
        state = opened.session.store.load()
        address = inventory.address_named(address, opened.session, state)
        answer = engine.ask(opened.session, inventory.object_of(address, state, Role.CURRENT), prompt)
        if answer is None:
            raise UsageError(f"{address} is nothing that answers", hint="deployments do")
        terminal.say("\n".join(clean(line, 100_000) for line in answer.splitlines()))
    return 0
