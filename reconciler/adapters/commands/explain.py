"""`reconciler explain`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from reconciler.adapters import options

if TYPE_CHECKING:
    from reconciler.emulator.switches import Switch

PROFILES = ("2026", "dec-2024")


@click.command()
@click.argument("topic", required=False)
@click.option("--profile", type=click.Choice(PROFILES), default=PROFILES[0], show_default=True, help="Whose models.")
@options.color
def explain(topic: str | None, profile: str) -> None:
    """Look something up.

    TOPIC is a kind, one of its fields (Deployment.smoke.expect), metadata, lifecycle, models, the code of a model,
    switches, or exit-codes.
    """
    from reconciler import catalogue
    from reconciler.adapters import terminal
    from reconciler.emulator.switches import SWITCHES
    from reconciler.errors import UsageError
    from reconciler.kinds import KINDS
    from reconciler.render import explain as words
    from reconciler.wording import did_you_mean, shown, suggestion

    width, prices = terminal.width(), catalogue.load()
    offered, kinds = prices.for_profile(profile), {**KINDS, **words.SHARED}
    name, *path = (topic or "").split(".") if topic and topic.split(".")[0] in kinds else (topic or "",)
    if not topic:
        page = words.overview_text(KINDS, width)
    elif topic == "exit-codes":
        page = words.exit_codes_text(width)
    elif topic == "switches":
        page = words.switches_text({name: (one.about, _values(one)) for name, one in SWITCHES.items()}, width)
    elif topic == "models":
        page = words.models_text(offered, width)
    elif name in kinds:
        try:
            page = words.kind_text(name, kinds[name], path, width)
        except KeyError as error:
            step = error.args[0]
            fields = words.fields_of(name, kinds[name], path[: path.index(step)])
            raise UsageError(
                f"{shown(topic)}: there is no field {shown(step)}", hint=suggestion(step, fields)
            ) from None
    else:
        try:
            page = words.model_text(
                offered, topic, {name: source.url for name, source in prices.sources.items()}, width
            )
        except KeyError:
            known = [
                *kinds,
                "models",
                "switches",
                "exit-codes",
                *(m.code for m in offered.models + offered.speech_models),
            ]
            raise UsageError(f"nothing is known of {shown(topic)}", hint=did_you_mean(topic, known)) from None
    terminal.say(page)


def _values(switch: Switch) -> str:
    return ", ".join(switch.values) or f"a whole number from {switch.least}"
