"""`reconciler emulator`."""

from __future__ import annotations

import click

PROFILES = ("2026", "dec-2024")


@click.group(invoke_without_command=False)
def emulator() -> None:
    """A local stand-in for the service, where nothing is bought."""


@emulator.command()
@click.option("--port", type=click.IntRange(0, 65535), default=0, help="0: any that is free.  [default: 0]")
@click.option(
    "--speed", type=click.FloatRange(min=0), default=600, show_default=True, help="Its seconds in one of ours."
)
@click.option("--api-key", default=None, help="Accept only this made-up key; else any that is not of the real form.")
@click.option(
    "--data",
    type=click.Path(file_okay=False),
    default=".reconciler/emulator-server",
    show_default=True,
    help="Where it keeps what it was sent.",
)
@click.option(
    "--profile", type=click.Choice(PROFILES), default=PROFILES[0], show_default=True, help="Its API generation."
)
@click.option("--seed", type=int, default=0, show_default=True, help="Of the durations it draws.")
@click.option(
    "--switch",
    "switches",
    multiple=True,
    metavar="NAME=VALUE",
    help="Decide a disputed fact (reconciler explain switches); may be repeated.",
)
@click.option(
    "--scenario",
    type=click.Path(exists=True, dir_okay=False),
    default=None,
    help="Faults to play and switches, in YAML or JSON (docs/emulator.md).",
)
@click.option("--rate", type=float, default=None, help="Refuse more API requests a second than this.  [default: none]")
@click.option("--burst", type=int, default=None, help="With --rate: so many may come at once.  [default: 1]")
@click.option("--latency-ms", type=float, default=None, help="Answer no sooner than this.  [default: at once]")
def start(
    port: int,
    speed: float,
    api_key: str | None,
    data: str,
    profile: str,
    seed: int,
    switches: tuple[str, ...],
    scenario: str | None,
    rate: float | None,
    burst: int | None,
    latency_ms: float | None,
) -> None:
    """Serve it on this computer until Ctrl-C."""
    from pathlib import Path

    from reconciler.adapters import terminal
    from reconciler.emulator.server import run
    from reconciler.errors import ReconcilerError, UsageError
    from reconciler.render.words import clean

    turned: dict[str, object] = {}
    for switch in switches:
        name, equals, value = switch.partition("=")
        if not equals:
            raise UsageError(f"--switch {clean(switch)} has no value", hint="write NAME=VALUE")
        turned[name] = int(value) if value.isdecimal() and len(value) < 20 else value

    def announce(origin: str) -> None:
        key = "$DASHSCOPE_API_KEY" if api_key else "any-made-up-key"
        terminal.say(f"emulator on {origin}/api/v1, profile {profile}, {speed:g} times as fast; nothing is bought")
        terminal.say(f"  export DASHSCOPE_HTTP_BASE_URL={origin}/api/v1")
        terminal.say(f'  curl -H "Authorization: Bearer {key}" {origin}/api/v1/fine-tunes')

    folder = Path(data)
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        run(
            folder,
            announce=announce,
            profile=profile,
            speed=speed,
            port=port,
            api_key=api_key,
            seed=seed,
            switches=turned,
            scenario=Path(scenario) if scenario else None,
            rate_per_s=rate,
            burst=burst,
            latency_ms=latency_ms,
        )
    except ValueError as error:
        raise UsageError(str(error), hint="reconciler explain switches" if switches else "") from error
    except OSError as error:
        raise ReconcilerError(f"the emulator cannot start: {error.strerror}") from error
