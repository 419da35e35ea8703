"""`approve` as its user meets it: what waits, for whom it is shown, and a yes that holds once."""

from __future__ import annotations

import json

import pytest

from reconciler import engine
from reconciler.adapters import stack
from reconciler.adapters.options import Target
from reconciler.approvals import Leash, Mode
from reconciler.project import load
from reconciler.state import Approval, Held
from tests.adapters.conftest import Shell
from tests.adapters.test_cli import on_a_terminal
from tests.adapters.test_state_commands import HOSTILE, record


def look(shell: Shell, revision: str = "") -> None:
    """One pass of a loop, as a controller makes it."""
    with stack.opened(Target((str(shell.folder),)), writes=True) as opened:
        engine.reconcile(opened.session, Leash(Mode.APPLY, revision=revision))


def waiting(shell: Shell) -> list[dict[str, object]]:
    return list(json.loads(shell("approve", "-o", "json").out)["proposals"])


@pytest.fixture
def proposed(shell: Shell) -> Shell:
    """A stack whose paid objects wait for a yes."""
    look(shell, revision="9fceb02")
    return shell


def test_without_a_digest_it_lists_what_waits(proposed: Shell) -> None:
    result = proposed("approve")
    (one,) = waiting(proposed)
    assert (result.code, result.err) == (0, "")
    assert " Beijing time for 9fceb02\n" in result.out
    assert "  > FineTuneJob/tuned  once 0.006 CNY" in result.out
    assert f"  reconciler approve {one['digest'][:12]}" in result.out  # type: ignore[index]
    assert [held["object"] for held in one["operations"]] == ["FineTuneJob/tuned", "Deployment/prod"]  # type: ignore[attr-defined]
    assert (one["approved_at"], one["by"]) == (None, None)


def test_the_list_needs_neither_a_service_nor_a_key(proposed: Shell) -> None:
    """Whoever is asked may not be who holds the key."""
    proposed.change("stack.yaml", "endpoint: emulator", "endpoint: beijing")
    assert proposed("approve").code == 0
    assert len(waiting(proposed)) == 1


def test_where_nothing_was_ever_proposed_it_says_so_and_writes_nothing(shell: Shell) -> None:
    assert shell("approve").out == "nothing waits for approval\n"
    assert waiting(shell) == []
    assert not (shell.folder / ".reconciler/state.db").exists()


def test_nobody_agrees_unasked(proposed: Shell) -> None:
    digest = str(waiting(proposed)[0]["digest"])
    refused = proposed("approve", digest)
    assert (refused.code, refused.out) == (3, "")
    assert "--auto-approve" in refused.err
    declined = proposed("approve", digest, "-o", "json")
    assert (declined.code, json.loads(declined.out)["done"]) == (3, False)
    assert len(waiting(proposed)) == 1
    code, text = on_a_terminal(proposed, ["approve", digest, "--no-color"], "n")
    assert (code, len(waiting(proposed))) == (3, 1), text


def test_a_yes_is_recorded_with_who_and_when_and_the_next_look_does_it(proposed: Shell) -> None:
    digest = str(waiting(proposed)[0]["digest"])
    code, text = on_a_terminal(proposed, ["approve", digest[:12], "--no-color"], "y")
    assert code == 0, text
    assert "FineTuneJob/tuned" in text, "what it is about is shown before it is asked"
    assert "approved by " in text
    assert waiting(proposed) == []
    look(proposed)
    assert "FineTuneJob/tuned" in proposed("state", "list").out


def test_for_programs_the_answer_is_the_approval(proposed: Shell) -> None:
    digest = str(waiting(proposed)[0]["digest"])
    done = proposed("approve", digest[:8], "-y", "-o", "json", env={"LOGNAME": "ada"})
    told = json.loads(done.out)
    assert (done.code, told["done"], told["proposal"]["digest"]) == (0, True, digest)
    assert told["proposal"]["by"].startswith("ada on ")
    assert told["proposal"]["approved_at"].endswith("+08:00"), "the clock of the service, which bought it"


@pytest.mark.parametrize(
    ("digest", "said"),
    [
        ("0000000000", "no proposal begins with '0000000000'"),
        ("0", "what waits for approval: "),
        ("\x1b[2J", "'\\x1b[2J'"),
    ],
)
def test_a_digest_that_means_nothing_is_refused_with_what_there_is(proposed: Shell, digest: str, said: str) -> None:
    """A short one too: a yes is worth more than eight keystrokes."""
    result = proposed("approve", digest, "-y")
    assert (result.code, result.out) == (64, "")
    assert said in result.err
    assert len(waiting(proposed)) == 1


def test_nothing_hostile_that_was_proposed_reaches_a_terminal(proposed: Shell) -> None:
    evil = Approval("e" * 64, (Held("k", HOSTILE, HOSTILE, None, "1"),), HOSTILE, HOSTILE)
    record(proposed, evil)
    shown = proposed("approve")
    asked = proposed("approve", "e" * 12)
    assert "unknown CNY" in shown.out
    for text in (shown.out, asked.err, proposed("approve", "-o", "json").out):
        assert not any(letter in text for letter in "\x1b\u202e")
        assert "\n::" not in text


def test_what_was_agreed_to_is_in_the_state_of_that_stack(proposed: Shell) -> None:
    digest = str(waiting(proposed)[0]["digest"])
    proposed("approve", digest, "-y")
    store = engine.recorded(load([str(proposed.folder)]))
    assert store is not None
    assert [bool(one.approved_at) for one in store.load().approvals.values()] == [True]
