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
# `run` is a function of docs/ci
_BEFORE_A_COMMAND = frozenset("if then elif else while until do ! { exec time run $".split())
_BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.M | re.S)
_SHELLS = ("", "sh", "bash", "console")


class _Loader(yaml.SafeLoader):
    """Tags, as GitLab's `!reference`, are read as what stands behind them."""


def _untagged(loader: yaml.SafeLoader, suffix: str, node: yaml.Node) -> Any:
    if isinstance(node, yaml.MappingNode):
        return loader.construct_mapping(node, deep=True)
    return loader.construct_sequence(node, deep=True) if isinstance(node, yaml.SequenceNode) else node.value


_Loader.add_multi_constructor("!", _untagged)


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
    except click.BadParameter as error:
        if not (error.param and isinstance(error.param.type, click.Path)):
            raise  # a file that has to exist is not here


def in_shell(script: str) -> Iterator[tuple[str, ...]]:
    """The arguments of each call of ours in a shell script. Variables stay as they are written."""
    for line in re.sub(r"\\\n", " ", script).splitlines():
        yield from _in_line(line)


def in_markdown(page: str) -> Iterator[tuple[str, ...]]:
    """The same in the shell blocks of a page; in one that shows a prompt only what follows the prompts."""
    for block in (body for language, body in _BLOCK.findall(page) if language in _SHELLS):
        prompted = re.findall(r"^\$ ((?:.*\\\n)*.*)", block, re.M)
        yield from in_shell("\n".join(prompted) if prompted else block)


def in_yaml(text: str) -> Iterator[tuple[str, ...]]:
    """The same in every value of YAML documents: a script, or a list that is a program and its arguments."""
    for document in yaml.load_all(text, _Loader):
        yield from _in_value(document)


def in_dockerfile(text: str) -> Iterator[tuple[str, ...]]:
    """ENTRYPOINT with CMD in their exec form, and what RUN calls."""
    forms = dict(re.findall(r"^(ENTRYPOINT|CMD) (\[.*\])$", text, re.M))
    if forms:
        yield from _exec_form([*json.loads(forms.get("ENTRYPOINT", "[]")), *json.loads(forms.get("CMD", "[]"))])
    yield from in_shell("\n".join(re.findall(r"^RUN (.*(?:\\\n.*)*)", text, re.M)))


def read_yaml(path: Path) -> Any:
    """The one document of a file."""
    return yaml.load(path.read_text(encoding="utf-8"), _Loader)


def in_file(path: Path) -> list[tuple[str, ...]]:
    """By what kind of file it is."""
    readers = {".md": in_markdown, ".yml": in_yaml, ".yaml": in_yaml, ".sh": in_shell}
    reader = in_dockerfile if path.name == "Dockerfile" else readers[path.suffix]
    return list(reader(path.read_text(encoding="utf-8")))


def _in_line(line: str) -> Iterator[tuple[str, ...]]:
    words: list[str] = []
    for token in [*_tokens(line), ";"]:
        if _made_of(token, ";|&()"):
            yield from _exec_form(list(_without_redirections(_call(words))))
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
        redirects = _made_of(word, "<>&")
        descriptor = word.isdigit() and _made_of("".join(words[place + 1 : place + 2]), "<>&")
        if not (skip or redirects or descriptor):
            yield word
        skip = redirects


def _made_of(word: str, signs: str) -> bool:
    return bool(word) and set(word) <= set(signs)


def _exec_form(words: Sequence[str]) -> Iterator[tuple[str, ...]]:
    """A program and its arguments, if it is ours. Alone it is only a name, as that of a job."""
    if len(words) > 1 and words[0].rpartition("/")[2] == PROGRAM:
        yield tuple(words[1:])


def _in_value(value: Any) -> Iterator[tuple[str, ...]]:
    match value:
        case str():
            yield from in_shell(value)
        case {"image": str(), "args": [*arguments], **rest} if "command" not in rest:
            yield from _exec_form([PROGRAM, *arguments])  # the entry point of the image
        case dict():
            for one in value.values():
                yield from _in_value(one)
        case [str(), *_] if all(isinstance(one, str) for one in value) and value[0].rpartition("/")[2] == PROGRAM:
            yield from _exec_form(value)
        case list():
            for one in value:
                yield from _in_value(one)
