"""The command line's front door: which commands there are, and how anything that goes wrong ends.

Loads click and nothing heavier, so that help and completion are immediate; a command's module is loaded when
it is given. Every error leaves through `run`, as words on stderr and an exit code (docs/exit-codes.md).
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Sequence
from importlib import import_module
from keyword import iskeyword
from typing import NoReturn

import click

from reconciler import __version__
from reconciler.adapters import terminal

INTERRUPTED, USAGE = 130, 64

GROUPS = {
    "Work on a stack": {
        "init": "Write a small stack to start from.",
        "validate": "Check the manifests, offline and without a key.",
        "lint": "Check training data: a file, or the Datasets of the manifests.",
        "plan": "Show what would happen and what it would cost.",
        "show": "Show a plan that was saved, offline.",
        "report": "A saved plan, and what became of it, as one comment.",
        "apply": "Do it, once, and wait until it is done.",
        "destroy": "Delete what the stack owns, users before what they use.",
        "wait": "Wait until objects are ready, or gone; changes nothing.",
        "cancel": "Stop the run of a fine-tune job that is under way.",
        "retry": "Make again what failed.",
        "pause": "Hold back objects, or the whole stack, until resume.",
        "resume": "End a pause.",
        "approve": "Agree to what a controller proposed.",
    },
    "See what there is": {
        "status": "Every object of the stack and the run rate.",
        "drift": "What is no longer as it was last applied, and by whom.",
        "get": "A table of objects.",
        "describe": "Everything known of one object.",
        "logs": "The log of a fine-tune job.",
        "call": "Put one prompt to a deployment.",
        "metrics": "The loss curve of a fine-tune job.",
        "graph": "What refers to what.",
        "lineage": "From data to the deployed model, and back.",
        "cost": "What runs, what was bought, what is declared, in CNY.",
        "discover": "What the account holds that is not ours or serves nothing.",
        "orphans": "What carries a mark like ours and is recorded nowhere.",
        "ui": "The stack as a page in a browser, until Ctrl-C.",
    },
    "Put the record right": {
        "import": "Take in an object that was made by hand.",
        "state": "What is recorded: look, move, forget, unlock, rebuild.",
        "ops": "Operations whose outcome is not known: look, decide.",
    },
    "Look something up": {
        "explain": "Kinds and their fields, models and prices, exit codes.",
        "schema": "The JSON Schema of the manifests, for editors.",
        "version": "Versions of the program and its catalogue.",
    },
    "Around it": {
        "doctor": "Check endpoint, key, clock, quotas and state; buys nothing.",
        "controller": "Keep stacks true, for as long as it runs.",
        "emulator": "Serve the emulator, where nothing is bought.",
        "completion": "Print the completion script of a shell.",
    },
}
COMMANDS = {name: about for commands in GROUPS.values() for name, about in commands.items()}


def main() -> NoReturn:
    """The whole process. httpx comes without its command line, which would load rich and pygments for every request."""
    sys.modules["httpx._main"] = None  # type: ignore[assignment]  # as where they are not installed: httpx does without
    threading.excepthook = _thread_failed
    sys.exit(run())


def run(arguments: Sequence[str] | None = None) -> int:
    """One invocation, from arguments to its exit code; a reader that went away ends it with 1, which is click's."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    color = False if os.environ.get("NO_COLOR") or terminal.is_dumb() else None
    try:
        code = cli.main(arguments, prog_name="reconciler", standalone_mode=False, color=color)
        return code or 0
    except click.exceptions.Exit as leave:
        return leave.exit_code
    except click.exceptions.NoArgsIsHelpError as error:
        return _complain(error.format_message(), USAGE)
    except click.UsageError as error:
        where = error.ctx.command_path if error.ctx else "reconciler"
        return _complain(f"error: {error.format_message()}\n  {where} --help", USAGE)
    except (KeyboardInterrupt, click.Abort):
        return _complain("interrupted", INTERRUPTED)
    except Exception as error:
        return _failed(error)


def _failed(error: BaseException) -> int:
    """What the tool knows how to say, else one line, and a file that a report can start from."""
    from reconciler.errors import ReconcilerError

    if isinstance(error, ReconcilerError):
        from reconciler.render.errors import error_text

        return _complain(error_text(error), error.exit_code)
    if os.environ.get("RECONCILER_DEBUG") == "1":
        from traceback import print_exc

        print_exc()
    from reconciler.adapters.crash import reported

    return _complain(reported(error), 1)


def _thread_failed(failed: threading.ExceptHookArgs) -> None:
    """A thread of ours ended by a mistake: said as any other. What it was for is missed where it is needed."""
    if failed.exc_value is not None:
        _failed(failed.exc_value)


def _complain(text: str, code: int) -> int:
    try:
        terminal.mention(text)
    except OSError:
        terminal.silence(sys.stderr)
    return code


class Commands(click.Group):
    """A group that knows its commands by name and loads each one's module when it is needed."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in COMMANDS:
            return None
        word = f"{name}_" if iskeyword(name) else name
        command: click.Command = getattr(import_module(f"reconciler.adapters.commands.{word}"), word)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0]
        if name not in COMMANDS and not name.startswith("-"):
            from difflib import get_close_matches

            near = get_close_matches(name, COMMANDS, n=1)
            ctx.fail(f"no command {name[:100]!r}" + (f", did you mean {near[0]}?" if near else ""))
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        for title, commands in GROUPS.items():
            with formatter.section(title):
                formatter.write_dl(list(commands.items()))

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[click.shell_completion.CompletionItem]:
        """Names and help from the table above: nothing is loaded to complete the name of a command."""
        items = [
            click.shell_completion.CompletionItem(name, help=about)
            for name, about in COMMANDS.items()
            if name.startswith(incomplete)
        ]
        return items or click.Command.shell_complete(self, ctx, incomplete)


@click.group(
    cls=Commands,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Without a Stack in the manifests everything happens on the embedded emulator, where nothing is bought."
    " Exit codes: reconciler explain exit-codes.",
)
@click.version_option(__version__, "-V", "--version", message="%(prog)s %(version)s")
def cli() -> None:
    """Declare fine-tuning on Alibaba Cloud Bailian in YAML; see what would happen and what it costs; do it once."""
