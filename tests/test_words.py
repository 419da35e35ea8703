"""Files of hotwords: what was written and no more, each mistake with its line and column."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.files import Tree
from reconciler.words import read_words


def read(folder: Path, name: str, text: str | bytes) -> tuple[list[Any], list[str]]:
    (folder / name).write_bytes(text.encode() if isinstance(text, str) else text)
    words, problems = read_words(Tree(folder), name)
    return list(words), [str(problem).removeprefix(f"{folder / name}:") for problem in problems]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("w.csv", "text,weight,lang\n厄洛替尼,4,zh\nerlotinib,-2,\n"),
        ("w.csv", "\ufeffweight,lang,text\r\n4,zh,厄洛替尼\r\n-2,,erlotinib"),
        ("w.csv", 'text,"weight",lang\n"厄洛替尼",4, zh \n\n  \nerlotinib,-2,\n'),
        ("w.tsv", "text\tweight\tlang\n厄洛替尼\t4\tzh\nerlotinib\t-2\t\n"),
        ("w.yaml", "- {text: 厄洛替尼, weight: 4, lang: zh}\n- {text: erlotinib, weight: -2}\n"),
        ("w.yml", "- text: 厄洛替尼\n  weight: 4\n  lang: zh\n- {text: erlotinib, weight: -2}\n"),
    ],
)
def test_all_forms_give_the_same_items_without_what_was_left_out(tmp_path: Path, name: str, text: str) -> None:
    assert read(tmp_path, name, text) == (
        [{"text": "厄洛替尼", "weight": 4, "lang": "zh"}, {"text": "erlotinib", "weight": -2}],
        [],
    )


def test_quotes_hold_separators_and_quotes(tmp_path: Path) -> None:
    assert read(tmp_path, "w.csv", 'text,weight\n"a, ""b""",1\n')[0] == [{"text": 'a, "b"', "weight": 1}]


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        (
            "w.csv",
            "text,wieght\na,1\n",
            ["1:6  unknown column 'wieght' (did you mean weight?)", "1:1  no column weight"],
        ),
        ("w.csv", "text,weight,text\na,1,b\n", ["1:13  the column text is there twice"]),
        (
            "w.csv",
            "text,weight\na,1\nb,x\nc,4.0\n",
            ["3:3  weight must be a whole number, not 'x'", "4:3  weight must be"],
        ),
        ("w.csv", "text,weight\n,1\nb,\n", ["2:1  text is missing", "3:1  weight is missing"]),
        ("w.csv", "text,weight\na,b,1\n", ["2:1  3 cells, and the header has 2"]),
        ("w.csv", 'text,weight\n"a,1\n', ["2:1  a quote that is not closed"]),
        ("w.csv", "text,weight\na\u202eb,1\n", ["2:1  an invisible character"]),
        ("w.csv", "text,weight\na,４\n", ["2:3  weight must be a whole number"]),
        ("w.csv", b"text,weight\n\xe5\x8e\x84\xff,1\n", ["2:2  this is not UTF-8"]),
        ("w.csv", "", ["1:1  the file holds no words"]),
        ("w.csv", "text,weight\n", ["1:1  the file holds no words"]),
        ("w.yaml", "- {text: a, weight: 1, lng: zh}\n", ["1:24  unknown field 'lng' (did you mean lang?)"]),
        (
            "w.yaml",
            '- {text: a, weight: "1"}\n- {text: 4, weight: 1}\n',
            ["1:13  weight must be a whole number", "2:4  text must be a text (quote it)"],
        ),
        ("w.yaml", "- {weight: 1}\n- a\n", ["1:3  text is missing", "2:3  a word is a mapping"]),
        ("w.yaml", "- {text: no, weight: 1}\n", ["1:10  no is false to some readers"]),
        ("w.yaml", "words: []\n", ["1:1  a file of words is one list"]),
    ],
)
def test_each_mistake_has_its_place(tmp_path: Path, name: str, text: str | bytes, said: list[str]) -> None:
    found = read(tmp_path, name, text)[1]
    assert len(found) == len(said), found
    assert all(one.startswith(start) for one, start in zip(found, said, strict=True)), found


def test_other_files_are_refused_before_they_are_read(tmp_path: Path) -> None:
    assert "words are a .csv" in read(tmp_path, "w.xlsx", "x")[1][0]
    assert "no such file" in str(read_words(Tree(tmp_path), "none.csv")[1][0])


@given(st.text(alphabet='text,weigh\n"\r1a\u202e\x1b', max_size=60))
def test_no_text_makes_it_raise(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    words, problems = read(tmp_path_factory.getbasetemp(), "any.csv", "text,weight\n" + text)
    assert words or problems
    assert all(problem.isprintable() for problem in problems)
