"""`reconciler init`."""

from __future__ import annotations

import click


@click.command()
@click.argument("folder", default=".", type=click.Path(file_okay=False), metavar="[DIR]")
@click.option("--lang", type=click.Choice(["en", "zh"]), default="en", show_default=True, help="Of comments and data.")
def init(folder: str, lang: str) -> None:
    """Write a small stack to start from: a dataset, a run, a deployment and hotwords, all on the emulator.

    Nothing that exists is ever overwritten.
    """
    from importlib.resources import files
    from pathlib import Path

    from reconciler import catalogue
    from reconciler.errors import ReconcilerError
    from reconciler.kinds import KINDS
    from reconciler.render.data import json_text
    from reconciler.render.schema import FILE, manifest_schema
    from reconciler.render.words import clean, listed

    root, starter = Path(folder), files("reconciler.adapters") / "starter" / lang
    texts = {name: (starter / name).read_text("utf-8") for name in NAMES}
    texts[FILE] = json_text(manifest_schema(KINDS, catalogue.load().for_profile("2026"))) + "\n"
    present = [name for name in texts if (root / name).is_symlink() or (root / name).exists()]
    if present:
        message = f"{clean(folder)} already holds {listed(present)}"
        raise ReconcilerError(message, hint="nothing was written; name another folder")
    try:
        for name, text in texts.items():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            with open(root / name, "x", encoding="utf-8") as file:
                file.write(text)
    except OSError as error:
        raise ReconcilerError(f"{clean(folder)} cannot be written: {error.strerror}") from error
    where = "" if folder == "." else f" -f {clean(folder)}"
    click.echo("\n".join(f"wrote {clean(root / name)}" for name in texts))
    click.echo(f"next: reconciler plan{where}; reconciler apply{where}  (emulator: nothing is bought)")


NAMES = ("stack.yaml", "assistant.yaml", "hotwords.yaml", "data/assistant.jsonl")
