"""`reconciler explain`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import click

from reconciler.adapters import options

if TYPE_CHECKING:
    from reconciler.emulator.switches import Switch

PROFILES = ("2026", "dec-2024")


@click.command()
@click.argument("topic", required=False)
@click.option("--profile", type=click.Choice(PROFILES), default=PROFILES[0], show_default=True, help="Whose models.")
@options.output("text", "json", "markdown")
@options.color
def explain(topic: str | None, profile: str, output: str) -> None:
    """Look something up.

    TOPIC is a kind, one of its fields (Deployment.smoke.expect), metadata, lifecycle, models, the code of a model,
    switches, or exit-codes. Without one: what there is, as Markdown the whole reference.
    """
    from reconciler import catalogue
    from reconciler.adapters import terminal
    from reconciler.emulator.switches import SWITCHES
    from reconciler.errors import UsageError
    from reconciler.kinds import KINDS
    from reconciler.render import explain as words
    from reconciler.render import reference
    from reconciler.render.data import json_text
    from reconciler.wording import did_you_mean, shown

    width, prices, topic = terminal.width(), catalogue.load(), topic or ""
    offered, path = prices.for_profile(profile), topic.split(".")
    pairs: Mapping[str, Callable[[], Mapping[str, str]]] = {
        "": lambda: words.overview(KINDS),
        "exit-codes": words.exit_codes,
        "switches": lambda: {name: f"{one.about} ({_values(one)})" for name, one in SWITCHES.items()},
    }
    codes = [model.code for model in offered.models + offered.speech_models]
    data: Mapping[str, Any]
    if topic in pairs:
        rows = pairs[topic]()
        text, data = words.pairs_text(rows, width), {topic.replace("-", "_") or "topics": rows}
        markdown = reference.pairs_markdown(rows) if topic else reference.reference(KINDS, offered)
    elif path[0] in {**KINDS, **words.SHARED}:
        one = words.entry(path, KINDS, offered)
        text, data, markdown = words.entry_text(one, width), words.entry_json(one), reference.entry_markdown(one)
    elif topic == "models":
        text, data = words.models_text(offered, width), words.models_json(offered)
        markdown = reference.quoted(words.models_text(offered, None))
    elif topic in codes:
        sources = {name: source.url for name, source in prices.sources.items()}
        text, data = words.model_text(offered, topic, sources, width), words.model_json(offered, topic)
        markdown = reference.quoted(words.model_text(offered, topic, sources, None))
    else:
        known = [*KINDS, *words.SHARED, *words.TOPICS, *codes]
        raise UsageError(f"nothing is known of {shown(topic)}", hint=did_you_mean(topic, known))
    pages = {"text": text, "json": json_text({"format_version": words.FORMAT_VERSION, **data}), "markdown": markdown}
    terminal.say(pages[output].rstrip("\n"))


def _values(switch: Switch) -> str:
    return ", ".join(switch.values) or f"a whole number from {switch.least}"
