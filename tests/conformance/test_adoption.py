"""A team that worked with the vendor's SDK begins to use the tool: its account is taken over, and nothing is made."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.adapters.conftest import Shell
from tests.conformance.facts import NEW, OLD
from tests.conformance.vendor import CLIENT, MODULE, MODULE_OLD, Surface
from tests.desk import KEY, Emulator

Play = Callable[..., Emulator]
ACCOUNTS = [
    pytest.param(MODULE_OLD, OLD, id="1.20.14-module_api-dec-2024"),
    pytest.param(MODULE, NEW, id="2.0.2-module_api-2026"),
    pytest.param(CLIENT, NEW, id="2.0.2-client_api-2026"),
]


@pytest.mark.parametrize(("surface", "profile"), ACCOUNTS)
def test_what_the_sdk_made_is_taken_over_and_the_first_plan_is_empty(
    play: Play, tmp_path: Path, surface: Surface, profile: str
) -> None:
    """Manifests for all of it, the data fetched; and once the state is lost, the same again without buying anything."""
    service = play(surface, profile, "an_account_by_hand")
    phrases = {"model": "paraformer-v1", "training_type": "compile_asr_phrase", "training_file_ids": []}
    service.call("POST", "/fine-tunes", phrases | {"hyper_parameters": {"phrase_list": {"词": 2}}})
    before = service.ledger()
    (tmp_path / "project").mkdir()
    shell = Shell(tmp_path / "project")
    stack = f"{{endpoint: emulator, profile: '{profile}'}}"
    head = "apiVersion: bailian.reconciler/v1alpha1\nkind: Stack\nmetadata: {name: s}"
    shell.write("stack.yaml", f"{head}\nspec: {stack}\n")

    def reconciler(*arguments: str, code: int = 0) -> str:
        at = {"DASHSCOPE_HTTP_BASE_URL": f"{service.origin}/api/v1", "DASHSCOPE_API_KEY": KEY}
        result = shell(*arguments, env=at)
        assert result.code == code, result.err
        assert "Signature" not in result.out + result.err, "the link to the content is a secret"
        return result.out

    told = json.loads(reconciler("discover", "--write", "adopted", "--download", "-y", "-o", "json"))
    made = sorted(one["address"].partition("/")[0] for one in told["objects"])
    assert made == [*["Dataset"] * 2, *["Deployment"] * 2, *["FineTuneJob"] * 3, *["HotwordTable"] * 2]
    assert [(one["collection"], one["why"].split(":")[0]) for one in told["left_alone"]] == [
        ("jobs", "is FAILED"),
        ("phrases", "the service never shows its words"),
    ]
    specs = [one["manifest"]["spec"] for one in told["objects"]]
    assert sum(isinstance(spec.get("model"), dict) for spec in specs) == 2, "what is made from a run names it"
    first = json.loads(reconciler("plan", "--detailed-exitcode", "-o", "json"))
    assert (first["changes"], {one["verb"] for one in first["operations"]}) == (False, {"wait"}), "two are under way"
    left = json.loads(reconciler("discover", "-o", "json"))["found"]
    unmanaged = [one["collection"] for one in left if one["what"] == "unmanaged"]
    assert unmanaged == ["jobs", "phrases"], "what was left alone, and nothing else"
    for path in (shell.folder / ".reconciler").glob("state.db*"):
        path.unlink()
    plan = json.loads(reconciler("plan", "-o", "json"))
    assert [one["action"] for one in plan["operations"]] == ["adopt"] * 9
    reconciler("apply", "-y", "--wait", "none", code=6)
    service.control("clock", {"advance_s": 24 * 3600})
    reconciler("apply", "-y")
    assert "no changes: 9 objects are as declared" in reconciler("plan")
    assert service.ledger() == before, "nothing was bought, changed or deleted"
