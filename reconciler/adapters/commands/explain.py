"""`reconciler explain`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING

import click

from reconciler.adapters import options

if TYPE_CHECKING:
    from reconciler.emulator.switches import Switch

PROFILES = ("2026", "dec-2024")


@click.command()
@click.argument("topic", required=False)
@click.option("--profile", type=click.Choice(PROFILES), default=PROFILES[0], show_default=True, help="Whose models.")
@options.output("text", "json", "yaml", "markdown")
@options.color
def explain(topic: str | None, profile: str, output: str) -> None:
    """Look something up.

    TOPIC is a kind, one of its fields (Deployment.smoke.expect), metadata, lifecycle, models, the code of a model,
    switches, or exit-codes. Without one: what there is, as Markdown the whole reference.
    """
    from reconciler import catalogue
    from reconciler.adapters.output import result
    from reconciler.emulator.switches import SWITCHES
    from reconciler.errors import UsageError
    from reconciler.kinds import KINDS
    from reconciler.render import explain as words
    from reconciler.render import reference
    from reconciler.render.markdown import fenced
    from reconciler.wording import did_you_mean, shown

    prices, topic = catalogue.load(), topic or ""
    offered, path = prices.for_profile(profile), topic.split(".")
    pairs: Mapping[str, Callable[[], Mapping[str, str]]] = {
        "": lambda: words.overview(KINDS),
        "exit-codes": words.exit_codes,
        "switches": lambda: {name: f"{one.about} ({_values(one)})" for name, one in SWITCHES.items()},
    }
    whole = partial(reference.reference, KINDS, offered)
    codes = [model.code for model in offered.models + offered.speech_models]
    if topic in pairs:
        rows = pairs[topic]()
        result(
            output,
            lambda: {topic.replace("-", "_") or "topics": rows},
            lambda width: words.pairs_text(rows, width),
            markdown=lambda: (reference.pairs_markdown(rows) if topic else whole()).rstrip(),
        )
    elif path[0] in {**KINDS, **words.SHARED}:
        one = words.entry(path, KINDS, offered)
        result(
            output,
            lambda: words.entry_json(one),
            lambda width: words.entry_text(one, width),
            markdown=lambda: reference.entry_markdown(one).rstrip(),
        )
    elif topic == "models":
        result(
            output,
            lambda: words.models_json(offered),
            lambda width: words.models_text(offered, width),
            markdown=lambda: fenced(words.models_text(offered, None)),
        )
    elif topic in codes:
        sources = {name: source.url for name, source in prices.sources.items()}
        result(
            output,
            lambda: words.model_json(offered, topic),
            lambda width: words.model_text(offered, topic, sources, width),
            markdown=lambda: fenced(words.model_text(offered, topic, sources, None)),
        )
    else:
        known = [*KINDS, *words.SHARED, *words.TOPICS, *codes]
        raise UsageError(f"nothing is known of {shown(topic)}", hint=did_you_mean(topic, known))


def _values(switch: Switch) -> str:
    return ", ".join(switch.values) or f"a whole number from {switch.least}"
