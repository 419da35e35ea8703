"""`reconciler lint` as its user meets it: a bare file or a Dataset, as a page, as data, as SARIF."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from reconciler.findings import RULES
from tests.adapters.conftest import REPOSITORY, Shell
from tests.desk import dpo, sft


def rows(*values: object) -> str:
    return "".join(json.dumps(value, ensure_ascii=False) + "\n" for value in values)


def many(count: int) -> list[dict[str, Any]]:
    return [sft(f"question {number}") for number in range(count)]


def test_a_bare_file_needs_no_manifest_and_its_format_is_guessed_and_said(empty: Shell) -> None:
    empty.write("a.jsonl", rows(*many(1000)))
    result = empty("lint", "a.jsonl")
    assert (result.code, result.err) == (0, "")
    assert result.out.startswith("a.jsonl  (sft, by its first rows, profile 2026)\n  rows        1,000, ")
    assert result.out.endswith("\n\n0 errors, 0 warnings\n")
    empty.write("b.jsonl", rows(*(dpo(f"q{number}") for number in range(100))))
    assert "(dpo, by its first rows" in empty("lint", "b.jsonl").out
    assert "(sft, for want of a row that tells" in empty("lint", "missing.jsonl").out


def test_a_mistake_is_told_with_its_place_and_rule_and_exits_1(empty: Shell) -> None:
    empty.write("a.jsonl", rows(*many(999), {"messages": [{"role": "bot", "content": "secret" * 100}]}))
    result = empty("lint", "a.jsonl", "--format", "sft")
    assert result.code == 1
    assert (
        "  error: a.jsonl:1000:24  messages[0].role must be one of system, user, assistant, tool  [role]" in result.out
    )
    assert "secret" not in result.out + result.err
    assert "(sft, as asked for" in result.out


def test_the_profile_decides_what_is_known(empty: Shell) -> None:
    row = sft("q")
    row["tools"] = [{}]
    empty.write("a.jsonl", rows(row, *many(999)))
    assert empty("lint", "a.jsonl").code == 0
    assert "tools is not known in profile dec-2024  [tools]" in empty("lint", "a.jsonl", "--profile", "dec-2024").out


def test_without_arguments_every_dataset_is_checked_also_those_with_mistakes(shell: Shell) -> None:
    shell.change("stack.yaml", "kind: FineTuneJob", "kind: Dataset\nmetadata: {name: pairs}\n"
                 "spec: {source: data/pairs.jsonl, format: dpo}\n---\n"
                 "apiVersion: bailian.reconciler/v1alpha1\nkind: FineTuneJob")  # fmt: skip
    shell.write("data/pairs.jsonl", rows(*(dpo(f"q{number}") for number in range(100))) + "{}\n")
    both = shell("lint")
    assert both.code == 1
    assert both.out.index("Dataset/rows\n") < both.out.index("Dataset/pairs\n")
    assert "error: data/pairs.jsonl:101:1  messages must be a list" in both.out
    one = shell("lint", "Dataset/rows")
    assert (one.code, "Dataset/pairs" in one.out) == (0, False)


def test_an_address_without_data_and_a_broken_manifest_are_told(shell: Shell) -> None:
    wrong = shell("lint", "Dataset/row")
    assert (wrong.code, wrong.out) == (64, "")
    assert "did you mean Dataset/rows?" in wrong.err
    shell.change("stack.yaml", "format: sft", "fromat: sft")
    broken = shell("lint", "Dataset/rows")
    assert (broken.code, broken.out) == (1, "")
    assert "did you mean format?" in broken.err


def test_validate_and_plan_tell_the_same_warnings_and_errors(shell: Shell) -> None:
    shell.change("stack.yaml", ", lint: {minRows: 30}", "")
    warning = "30 rows, and 1,000 or more are advised for sft"
    for command in ("validate", "plan"):
        result = shell(command)
        assert result.code == 0
        assert warning in result.err
        assert warning not in result.out
    assert json.loads(shell("validate", "-o", "json").out)["warnings"][0]["what"].startswith(warning)
    shell.change("stack.yaml", "format: sft}", "format: sft, lint: {minRows: 31}}")
    for command in ("validate", "plan"):
        result = shell(command)
        assert result.code == 1
        assert "30 rows, and lint.minRows wants 31" in result.err


def test_a_thousand_mistakes_are_a_bounded_page(shell: Shell) -> None:
    shell.write("data/rows.jsonl", '{"messages": 4}\n' * 1000)
    for arguments in (["validate"], ["lint"], ["plan"]):
        result = shell(*arguments)
        assert result.code == 1
        assert len((result.out + result.err).splitlines()) < 40
        assert "and 1,980 more in data/rows.jsonl" in result.out + result.err


@pytest.mark.parametrize("profile", ["dec-2024", "2026"])
def test_hostile_bytes_end_in_findings_and_never_reach_the_terminal(empty: Shell, profile: str) -> None:
    row = '{"messages": [{"role": "\x1b[2J\u202e", "content": "a"}], "messages": "\x07"}\n::error::x\n##[group]\n'
    (empty.folder / "a.jsonl").write_bytes(row.encode() + b"\xff\x00\n" + b"[" * 100_000 + b"\n")
    result = empty("lint", "a.jsonl", "--profile", profile)
    assert result.code == 1
    assert all(letter.isprintable() or letter == "\n" for letter in result.out + result.err)
    assert "::error" not in result.out


def test_the_samples_are_checked_offline(empty: Shell) -> None:
    for name in ("quickstart", "dec-2024"):
        result = empty("lint", "-f", str(REPOSITORY / "manifests" / name))
        assert (result.code, result.err) == (0, "")
        assert result.out.endswith("0 errors, 0 warnings\n")


def test_json_holds_all_that_the_page_tells(empty: Shell) -> None:
    empty.write("a.jsonl", rows(*many(10), *many(2)))
    data = json.loads(empty("lint", "a.jsonl", "-o", "json").out)
    source = data["sources"][0]
    assert data["ok"]
    assert (source["rows"], source["different"], source["repeated"], source["complete"]) == (12, 10, 2, True)
    assert source["characters"]["below"] == {"32": 12}
    assert [(one["level"], one["rule"], one["at"]["line"]) for one in source["findings"]] == [
        ("warning", "duplicates", 11),
        ("warning", "few-rows", 1),
    ]


def test_sarif_has_the_structure_that_version_2_1_0_requires(empty: Shell) -> None:
    """§3.13 log, §3.14 run, §3.19 component, §3.27 result, §3.28 location, §3.30 region of the standard."""
    empty.write("a b.jsonl", rows(*many(10), *many(2), {"messages": [{"role": "bot", "content": "a"}]}))
    log = json.loads(empty("lint", "a b.jsonl", "-o", "sarif").out)
    assert log["version"] == "2.1.0"
    assert log["$schema"].endswith("sarif-2.1.0.json")
    (run,) = log["runs"]
    driver = run["tool"]["driver"]
    assert (driver["name"], run["columnKind"]) == ("reconciler lint", "unicodeCodePoints")
    assert [rule["id"] for rule in driver["rules"]] == [*RULES, "manifest"]
    for rule in driver["rules"]:
        assert rule["shortDescription"]["text"]
        assert rule["defaultConfiguration"]["level"] in {"error", "warning"}
    levels = [result["level"] for result in run["results"]]
    assert levels == sorted(levels)
    assert set(levels) == {"error", "warning"}
    for result in run["results"]:
        assert result["message"]["text"]
        assert driver["rules"][result["ruleIndex"]]["id"] == result["ruleId"]
        (location,) = result["locations"]
        place = location["physicalLocation"]
        assert place["artifactLocation"]["uri"] == "a%20b.jsonl"
        assert place["region"]["startLine"] >= 1
        assert place["region"]["startColumn"] >= 1


def test_sarif_names_an_absolute_path_as_a_whole_uri_and_nothing_found_is_an_empty_list(empty: Shell) -> None:
    empty.write("a.jsonl", rows(*many(3)))
    log = json.loads(empty("lint", str(empty.folder / "a.jsonl"), "-o", "sarif").out)
    place = log["runs"][0]["results"][0]["locations"][0]["physicalLocation"]
    assert place["artifactLocation"]["uri"] == (empty.folder / "a.jsonl").as_uri()
    empty.write("b.jsonl", rows(*many(1000)))
    assert json.loads(empty("lint", "b.jsonl", "-o", "sarif").out)["runs"][0]["results"] == []


def test_explain_tells_what_may_be_written(empty: Shell) -> None:
    text = empty("explain", "Dataset.lint").out
    for words in ("duplicates", "ignore | warn | error", "nearDuplicates", "minRows", "fewer are an error"):
        assert words in text


def test_the_documentation_tells_every_rule() -> None:
    text = (REPOSITORY / "docs" / "lint.md").read_text(encoding="utf-8")
    for name, rule in RULES.items():
        levels = " | ".join(rule.in_profile(profile) for profile in ("dec-2024", "2026"))
        assert f"| `{name}` | {rule.about.replace('|', '/')} | {levels} | {rule.source} |" in text, name


def test_what_lies_outside_or_is_a_link_is_refused(empty: Shell, tmp_path: Path) -> None:
    (tmp_path / "real.jsonl").write_text(rows(*many(3)))
    (tmp_path / "link.jsonl").symlink_to("real.jsonl")
    result = empty("lint", "link.jsonl")
    assert result.code == 1
    assert "error: link.jsonl:1:1  'link.jsonl': is or passes through a link" in result.out
