"""The options that several commands share, so that they read and mean the same everywhere. Loads click only."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import wraps
from typing import Any, Literal, TypeVar

import click

Command = TypeVar("Command", bound=Callable[..., Any])
RULES = {
    "retrain": "FineTuneJob/NAME",  # changed inputs may buy a new run
    "duplicate": "ID",  # what a creation that was given up made after all may be stopped
    "inferred": "ID",  # what was taken for ours by its looks may be let go
    "vanished": "all",  # that most objects are gone at once is no wrong account
    "cost": "CNY",  # this apply may cost so much once, whatever the budget says
    "rate": "CNY",  # and lead to so much an hour
    "deletes": "COUNT",
    "share": "PERCENT",  # of what is owned, deleted
    "unknown-price": "yes",
    "quota": "yes",  # the account's limit is another than pages say
}
_NUMBERS = frozenset({"cost", "rate", "deletes", "share"})


@dataclass(frozen=True)
class Target:
    """Which manifests in which environment, and the service where that is not the manifests' choice."""

    files: tuple[str, ...]
    environment: str = ""
    endpoint: str = ""
    key_file: str = ""


@dataclass(frozen=True)
class Manner:
    """How a plan is carried out: whether it is approved already, what is waited for and how long, how many requests."""

    approved: bool
    wait: Literal["ready", "created", "none"]
    timeout_s: float | None
    parallelism: int
    lock_timeout_s: float


def manifests(command: Command) -> Command:
    """`-f` and `-e`; the command receives `target`."""
    return _file_option("-f", "--file")(_environment_option(_targeted(command)))


def service(command: Command) -> Command:
    """`-f`, `-e`, `--endpoint` and `--key-file`; the command receives `target`."""
    return _file_option("-f", "--file")(_environment_option(_service_options(_targeted(command))))


def service_without_f(command: Command) -> Command:
    """The same where `-f` means something else."""
    return _file_option("--file")(_environment_option(_service_options(_targeted(command))))


def _file_option(*names: str) -> Callable[[Command], Command]:
    return click.option(
        *names,
        "files",
        multiple=True,
        default=(".",),
        metavar="PATH",
        help="A manifest, a folder of them, or - for stdin; may be repeated.  [default: .]",
    )


def _environment_option(command: Command) -> Command:
    option = click.option(
        "-e",
        "--env",
        "environment",
        metavar="NAME",
        callback=_not_empty,
        shell_complete=_environments,
        help="The environment whose overlays, in envs/NAME, are laid over the manifests.",
    )
    return option(command)


def _not_empty(ctx: click.Context, option: click.Parameter, name: str | None) -> str:
    """A variable that a script forgot to set must not mean the base."""
    if name == "":
        raise click.BadParameter("it is empty: name an environment, or leave -e out for the base", ctx, option)
    return name or ""


def _environments(ctx: click.Context, option: click.Parameter, incomplete: str) -> list[str]:
    from pathlib import Path

    from reconciler.files import FileRefused, Tree

    try:
        known = Tree(Path()).environments()
    except FileRefused:
        return []
    return [name for name in known if name.startswith(incomplete) and re.fullmatch(r"[a-z0-9-]+", name)]


def _service_options(command: Command) -> Command:
    endpoint = click.option(
        "--endpoint",
        default="",
        metavar="URL",
        help="Another service than the Stack names; also DASHSCOPE_HTTP_BASE_URL.",
    )
    key_file = click.option(
        "--key-file",
        default="",
        type=click.Path(),
        help="A file (mode 0600) with the API key, instead of DASHSCOPE_API_KEY.",
    )
    return endpoint(key_file(command))


def _targeted(command: Command) -> Command:
    @wraps(command)
    def call(*, files: tuple[str, ...], environment: str, endpoint: str = "", key_file: str = "", **rest: Any) -> Any:
        return command(target=Target(files, environment, endpoint, key_file), **rest)

    return call  # type: ignore[return-value]  # the same command with other keywords


def output(*formats: str) -> Callable[[Command], Command]:
    """`-o`; the first format is the default."""
    return click.option(
        "-o", "--output", type=click.Choice(formats), default=formats[0], show_default=True, help="How it is printed."
    )


def color(command: Command) -> Command:
    """`--no-color`. The environment's NO_COLOR does the same."""

    def switch(ctx: click.Context, option: click.Parameter, off: bool) -> None:
        if off:
            ctx.color = False

    option = click.option("--no-color", is_flag=True, expose_value=False, callback=switch, help="Plain text.")
    return option(command)


def choices(command: Command) -> Command:
    """What a plan may do: `--prune`, `--replace`, `--allow`, `--max-cost`."""
    prune = click.option("--prune", is_flag=True, help="Also delete what is ours and no longer declared.")
    replace = click.option("--replace", multiple=True, metavar="KIND/NAME", help="Make it anew; may be repeated.")
    return prune(replace(allow(max_cost(command))))


def allow(command: Command) -> Command:
    """`--allow`"""
    option = click.option(
        "--allow",
        multiple=True,
        type=Rule(),
        help="Consent given beforehand: retrain=FineTuneJob/NAME lets changed inputs buy a new run; others as the plan"
        " names them. May be repeated.",
    )
    return option(command)


def max_cost(command: Command) -> Command:
    """`--max-cost`"""
    option = click.option(
        "--max-cost", type=click.FloatRange(min=0), metavar="CNY", help="Refuse what costs more than this once."
    )
    return option(command)


def selection(command: Command) -> Command:
    """`--target`, `--exclude` and `-l`; the command receives `selectors`."""

    @wraps(command)
    def call(*, target_: tuple[str, ...], exclude: tuple[str, ...], selector: tuple[str, ...], **rest: Any) -> Any:
        from reconciler.selection import Selectors, terms

        labels = tuple(term for written in selector for term in terms(written))
        return command(selectors=Selectors(target_, exclude, labels), **rest)

    target = click.option(
        "--target",
        "target_",
        multiple=True,
        metavar="KIND/NAME",
        help="Only this, and what it cannot do without; may be repeated.",
    )
    exclude = click.option(
        "--exclude", multiple=True, metavar="KIND/NAME", help="Neither this nor what rests on it; may be repeated."
    )
    return target(exclude(labels(call)))  # type: ignore[return-value]  # the same command, other keywords


def labels(command: Command) -> Command:
    """`-l`; the command receives `selector`."""
    return click.option(
        "-l",
        "--selector",
        multiple=True,
        metavar="LABELS",
        help="Only what has these labels: team=care,tier!=test,env in (a,b),!old.",
    )(command)


def addresses(allow: Iterable[tuple[str, str]]) -> Iterator[str]:
    """What consents say of documents."""
    return (value for rule, value in allow if "/" in RULES[rule])


def carrying_out(command: Command) -> Command:
    """`-y`, `--wait`, `--timeout`, `--parallelism` and `--lock-timeout`; the command receives `manner`."""

    @wraps(command)
    def call(
        *,
        auto_approve: bool,
        wait: Literal["ready", "created", "none"],
        timeout: float | None,
        parallelism: int,
        lock_timeout: float,
        **rest: Any,
    ) -> Any:
        return command(manner=Manner(auto_approve, wait, timeout, parallelism, lock_timeout), **rest)

    wait = click.option(
        "--wait",
        type=click.Choice(["ready", "created", "none"]),
        default="ready",
        show_default=True,
        help="What to wait for: all is ready; all was asked for and accepted; nothing.",
    )
    timeout = click.option("--timeout", type=Duration(), help="Leave the rest to go on remotely after this long.")
    parallelism = click.option(
        "--parallelism", type=click.IntRange(1, 32), default=8, show_default=True, help="Requests at once."
    )
    return approval(wait(timeout(parallelism(lock_timeout(call)))))  # type: ignore[return-value]  # other keywords


def lock_timeout(command: Command) -> Command:
    """`--lock-timeout`"""
    option = click.option(
        "--lock-timeout", type=Duration(), default="0s", help="How long to wait while another run holds the state."
    )
    return option(command)


def reason(command: Command) -> Command:
    """`--reason`, for whoever reads the journal later."""
    return click.option("--reason", default="", metavar="TEXT", help="Why; the journal keeps it.")(command)


def approval(command: Command) -> Command:
    """`-y`; the command receives `auto_approve`."""
    return click.option("-y", "--auto-approve", is_flag=True, help="Do not ask.")(command)


class Duration(click.ParamType[float]):
    """`30s`, `10m`, `2h`, or a number of seconds; as seconds."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        if isinstance(value, int | float):
            return float(value)
        found = re.fullmatch(r"([0-9]{1,9})(s|m|h|)", value)
        if not found:
            self.fail(f"{value!r} is no length of time: write 30s, 10m or 2h", param, ctx)
        return float(found[1]) * {"s": 1, "m": 60, "h": 3600, "": 1}[found[2]]


class Rule(click.ParamType[tuple[str, str]]):
    """`RULE=VALUE`, as a pair."""

    name = "rule=value"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, str]:
        if isinstance(value, tuple):
            return value
        rule, _, wanted = value.partition("=")
        number = re.fullmatch(r"[0-9]{1,12}(\.[0-9]{1,6})?", wanted)
        if rule not in RULES or not wanted or (rule in _NUMBERS and not number):
            known = ", ".join(f"{name}={of}" for name, of in RULES.items())
            self.fail(f"{value!r} is no consent: write one of {known}", param, ctx)
        return rule, wanted
