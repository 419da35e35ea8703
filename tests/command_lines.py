"""Command lines of ours as they stand in shell scripts, YAML, Dockerfiles and Markdown; parsed by the real commands.

`check` parses without running: options, arguments and choices are held to what a command takes, files need not exist.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import click
import yaml

from reconciler.adapters.cli import cli

PROGRAM = "reconciler"
_BEFORE_A_COMMAND = frozenset("if then elif else while until do ! { exec $".split())
_SHELL_BLOCK = re.compile(r"^```(?:sh|bash|console)?\n(.*?)^```", re.M | re.S)


def check(arguments: Sequence[str]) -> None:
    """click.UsageError where our commands would not take these arguments."""
    try:
        context = cli.make_context(PROGRAM, list(arguments))
        rest = [*context._protected_args, *context.args]
        while isinstance(context.command, click.Group):
            name, command, rest = context.command.resolve_command(context, rest)
            assert command is not None
            context = command.make_context(name, rest, parent=context)
            rest = [*context._protected_args, *context.args]
    except click.exceptions.Exit:
        pass  # --help and --version end it there


def in_shell(script: str) -> Iterator[tuple[str, ...]]:
    """The arguments of each call of ours in a shell script. Variables stay as they are written."""
    for line in re.sub(r"\\\n", " ", script).splitlines():
        yield from _in_line(line)


def in_markdown(page: str) -> Iterator[tuple[str, ...]]:
    """The same in the shell blocks of a page; in one that shows a prompt only what follows the prompts."""
    for block in _SHELL_BLOCK.findall(page):
        prompted = re.findall(r"^\$ (.*(?:\\\n.*)*)", block, re.M)
        yield from in_shell("\n".join(prompted) if prompted else block)


def in_yaml(text: str) -> Iterator[tuple[str, ...]]:
    """The same in every value of YAML documents: a script, or a list that is a program and its arguments."""
    for document in yaml.safe_load_all(text):
        yield from _in_value(document)


def in_dockerfile(text: str) -> Iterator[tuple[str, ...]]:
    """ENTRYPOINT with CMD in their exec form, and what RUN calls."""
    forms = dict(re.findall(r"^(ENTRYPOINT|CMD) (\[.*\])$", text, re.M))
    if forms:
        yield from _exec_form([*json.loads(forms.get("ENTRYPOINT", "[]")), *json.loads(forms.get("CMD", "[]"))])
    yield from in_shell("\n".join(re.findall(r"^RUN (.*(?:\\\n.*)*)", text, re.M)))


def in_file(path: Path) -> list[tuple[str, ...]]:
    """By what kind of file it is."""
    readers = {".md": in_markdown, ".yml": in_yaml, ".yaml": in_yaml, ".sh": in_shell}
    reader = in_dockerfile if path.name == "Dockerfile" else readers[path.suffix]
    return list(reader(path.read_text(encoding="utf-8")))


def _in_line(line: str) -> Iterator[tuple[str, ...]]:
    words: list[str] = []
    for token in [*_tokens(line), ";"]:
        if set(token) <= set(";|&()"):
            yield from _exec_form(_without_redirections(_call(words)))
            words = []
        else:
            words.append(token)


def _tokens(line: str) -> Iterator[str]:
    lexer = shlex.shlex(line.replace("$(", " ("), posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    try:
        yield from lexer
    except ValueError:
        return  # a quotation that goes on in the next line holds no call of ours


def _call(words: Sequence[str]) -> list[str]:
    """Without what may stand before a command: keywords, and variables for it alone."""
    rest = list(words)
    while rest and (rest[0] in _BEFORE_A_COMMAND or re.match(r"[A-Za-z_]\w*=", rest[0])):
        rest.pop(0)
    return rest


def _without_redirections(words: Sequence[str]) -> Iterator[str]:
    skip = False
    for place, word in enumerate(words):
        redirects = set(word) <= set("<>&")
        descriptor = word.isdigit() and place + 1 < len(words) and set(words[place + 1]) <= set("<>&")
        if not (skip or redirects or descriptor):
            yield word
        skip = redirects


def _exec_form(words: Any) -> Iterator[tuple[str, ...]]:
    program, *arguments = [*words, ""][:-1] or [""]
    if program.rpartition("/")[2] == PROGRAM:
        yield tuple(arguments)


def _in_value(value: Any) -> Iterator[tuple[str, ...]]:
    match value:
        case str():
            yield from in_shell(value)
        case {"command": [*program], "args": [*arguments], **rest} if all(isinstance(one, str) for one in program):
            yield from _exec_form([*program, *arguments])
            yield from _in_value([one for one in (*program, *arguments) if "\n" in one])
            yield from _in_value(rest)
        case {"entry": str(entry), "args": [*arguments], **rest}:
            yield from in_shell(shlex.join([*shlex.split(entry), *arguments]))
            yield from _in_value(rest)
        case dict():
            yield from _in_value(list(value.values()))
        case [str(program), *arguments] if program.rpartition("/")[2] == PROGRAM:
            yield from _exec_form([program, *arguments])
        case list():
            for one in value:
                yield from _in_value(one)
