"""Files of hotwords to plain items: comma- or tab-separated values, or YAML.

Promises that every mistake has its line and column. What a recognition model makes of a word (how long, how heavy, in
which language) is the kind's business, not this module's.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from reconciler.errors import Position, Problem
from reconciler.files import FileRefused, Tree
from reconciler.wording import shown, suggestion, visible
from reconciler.yamltext import MAX_FILE_BYTES, read_yaml

Words = tuple[Mapping[str, Any], ...]

_FIELDS = ("text", "weight", "lang")
_REQUIRED = ("text", "weight")


def read_words(tree: Tree, path: str, *, at: Position | None = None) -> tuple[Words, tuple[Problem, ...]]:
    """The words of a file as items that hold only what was written, and every mistake. `at` is where it was named.

    The header of a csv or tsv file names the columns text, weight and lang in any order; an empty cell is not written.
    """
    reader = _READERS.get(path.rpartition(".")[2])
    if reader is None:
        return (), (Problem(f"{shown(path)}: words are a .csv, .tsv or .yaml file", at),)
    try:
        data = tree.read(path, limit_bytes=MAX_FILE_BYTES)
    except FileRefused as error:
        return (), (Problem(str(error), at, error.hint),)
    problems: list[Problem] = []
    words = tuple(reader(tree.display(path), data, problems))
    if not words and not problems:
        problems.append(Problem("the file holds no words", Position(tree.display(path), 1, 1)))
    return words, tuple(problems)


# Comma- and tab-separated values ------------------------------------------------------------------------------------


def _comma_separated(file: str, data: bytes, problems: list[Problem]) -> Iterator[Mapping[str, Any]]:
    return _table(file, data, ",", problems)


def _tab_separated(file: str, data: bytes, problems: list[Problem]) -> Iterator[Mapping[str, Any]]:
    return _table(file, data, "\t", problems)


def _table(file: str, data: bytes, delimiter: str, problems: list[Problem]) -> Iterator[Mapping[str, Any]]:
    header: list[str] | None = None
    for number, line in enumerate(data.removeprefix(b"\xef\xbb\xbf").split(b"\n"), start=1):
        if not line.strip():
            continue
        cells = _cells(file, number, line.removesuffix(b"\r"), delimiter, problems)
        if cells is None:
            continue
        if header is None:
            header = _header(cells, problems)
            if header is None:
                return
        elif len(cells) != len(header):
            what = f"{len(cells)} cells, and the header has {len(header)}"
            problems.append(Problem(what, cells[0][0], "quote a text that holds the separator"))
        else:
            yield from _word(
                {name: cell for name, cell in zip(header, cells, strict=True) if cell[1]}, cells[0][0], problems
            )


def _cells(
    file: str, number: int, line: bytes, delimiter: str, problems: list[Problem]
) -> list[tuple[Position, str]] | None:
    """The cells of one line with the place of each; a cell in quotes may hold the separator, and "" for a quote."""
    try:
        text = line.decode("utf-8")
    except UnicodeDecodeError as error:
        column = len(line[: error.start].decode("utf-8")) + 1
        problems.append(Problem("this is not UTF-8", Position(file, number, column), "save the file as UTF-8"))
        return None
    cells, column = [], 0
    pattern = re.compile(rf'(?:"((?:[^"]|"")*+)"|([^"{delimiter}][^{delimiter}]*+|))({delimiter}|$)')
    while True:
        found = pattern.match(text, column)
        place = Position(file, number, column + 1)
        if not found:
            problems.append(Problem("a quote that is not closed, or text beside one", place))
            return None
        cells.append((place, (found[1].replace('""', '"') if found[1] is not None else found[2]).strip(" ")))
        if not found[3]:
            return cells
        column = found.end()


def _header(cells: list[tuple[Position, str]], problems: list[Problem]) -> list[str] | None:
    """The names of the columns, or None with what is wrong added to `problems`."""
    names, before = [name for _, name in cells], len(problems)
    for index, (place, name) in enumerate(cells):
        if name not in _FIELDS:
            problems.append(Problem(f"unknown column {shown(name)}", place, suggestion(name, _FIELDS)))
        elif name in names[:index]:
            problems.append(Problem(f"the column {name} is there twice", place))
    for name in _REQUIRED:
        if name not in names:
            hint = "the first line is text,weight or text,weight,lang"
            problems.append(Problem(f"no column {name}", cells[0][0], hint))
    return names if len(problems) == before else None


def _word(
    cells: Mapping[str, tuple[Position, str]], start: Position, problems: list[Problem]
) -> Iterator[Mapping[str, Any]]:
    before, word = len(problems), dict[str, Any]()
    for name, (place, value) in cells.items():
        if not visible(value):
            problems.append(Problem("an invisible character", place, "remove it"))
        if name != "weight":
            word[name] = value
        elif re.fullmatch(r"-?(0|[1-9][0-9]{0,8})", value):
            word[name] = int(value)
        else:
            problems.append(Problem(f"weight must be a whole number, not {shown(value, limit=20)}", place))
    problems += (Problem(f"{name} is missing", start) for name in _REQUIRED if name not in cells)
    if len(problems) == before:
        yield word


# YAML ---------------------------------------------------------------------------------------------------------------


def _yaml(file: str, data: bytes, problems: list[Problem]) -> Iterator[Mapping[str, Any]]:
    source = read_yaml(file, data)
    problems += source.problems
    for written in source.documents:
        if not isinstance(written.value, list):
            problems.append(
                Problem("a file of words is one list", written.position(()), "- {text: 厄洛替尼, weight: 4}")
            )
            continue
        for index, item in enumerate(written.value):
            if isinstance(item, dict):
                places = {name: written.keys[(index, name)] for name in item}
                yield from _item(item, places, written.position((index,)), problems)
            elif item is not None:
                problems.append(Problem("a word is a mapping of text and weight", written.position((index,))))


def _item(
    item: Mapping[str, Any], places: Mapping[str, Position], start: Position, problems: list[Problem]
) -> Iterator[Mapping[str, Any]]:
    before = len(problems)
    for name, value in item.items():
        wanted = int if name == "weight" else str
        if name not in _FIELDS:
            problems.append(Problem(f"unknown field {shown(name)}", places[name], suggestion(name, _FIELDS)))
        elif value is not None and type(value) is not wanted:
            what = "a whole number" if wanted is int else "a text"
            problems.append(Problem(f"{name} must be {what}", places[name], "" if wanted is int else "quote it"))
        elif value == "":
            problems.append(Problem(f"{name} is empty", places[name]))
    problems += (Problem(f"{name} is missing", start) for name in _REQUIRED if name not in item)
    if len(problems) == before and None not in item.values():
        yield item


_READERS = {"csv": _comma_separated, "tsv": _tab_separated, "yaml": _yaml, "yml": _yaml}
