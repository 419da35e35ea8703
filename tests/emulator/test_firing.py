"""Rules at work: which calls are counted and met, and the effects that need no connection of their own."""

from __future__ import annotations

from typing import Any

import pytest

from reconciler.emulator.faults import RULES_MAX
from tests.emulator.stand import CORE, HOTWORDS, MINUTE, Emulator, Json, Start, chat_rows, hotwords

FILES, JOBS, DEPLOYMENTS = "/api/v1/files", "/api/v1/fine-tunes", "/api/v1/deployments"
REFUSED: Json = {"operation": "files.list", "refuse": {}}


def statuses(emulator: Emulator, count: int, method: str = "GET", path: str = FILES) -> list[int]:
    return [emulator.call(method, path).status_code for _ in range(count)]


def shown(emulator: Emulator, query: str = "") -> list[str]:
    """The names of one page of files."""
    return [file["name"] for file in emulator.ok("GET", f"{FILES}{query}")["data"]["files"]]


def counts(emulator: Emulator) -> list[tuple[int, int]]:
    rules = emulator.ok("GET", "/_emulator/faults", key=None)["faults"]
    return [(rule["calls"], rule["fired"]) for rule in rules]


# Counting


def test_a_rule_meets_the_calls_it_names_and_no_other(emulator: Emulator) -> None:
    emulator.play({**REFUSED, "nth": [2, 3]})
    assert statuses(emulator, 4) == [200, 500, 500, 200]
    assert emulator.call("GET", JOBS).status_code == 200
    assert counts(emulator) == [(4, 2)]


def test_from_every_and_times(emulator: Emulator) -> None:
    emulator.play({**REFUSED, "from": 3, "every": 2, "times": 2})
    assert statuses(emulator, 9) == [200, 200, 200, 500, 200, 500, 200, 200, 200]


def test_chance_follows_the_seed_of_the_server_unless_the_rule_has_its_own(start: Start, tmp_path: Any) -> None:
    def drawn(folder: str, seed: int, own: int | None = None) -> list[int]:
        emulator = start(tmp_path / folder, seed=seed)
        emulator.play({**REFUSED, "probability": 0.5, "seed": own})
        return statuses(emulator, 30)

    first = drawn("a", 1)
    assert {200, 500} == set(first)
    assert first == drawn("b", 1) != drawn("c", 2)
    assert drawn("d", 1, own=9) == drawn("e", 2, own=9)


def test_a_pattern_counts_all_that_it_matches_together(emulator: Emulator) -> None:
    emulator.play({**REFUSED, "operation": "*.list", "nth": 3})
    paths = [FILES, JOBS, DEPLOYMENTS, FILES]
    assert [emulator.call("GET", path).status_code for path in paths] == [200, 200, 500, 200]
    assert counts(emulator) == [(4, 1)]


def test_verbs_that_share_an_address_are_told_apart(emulator: Emulator) -> None:
    """All five of the vocabularies are a POST to one path."""
    emulator.play({"operation": "vocabularies.list", "refuse": {}})
    assert emulator.call("POST", HOTWORDS, json=hotwords("list_vocabulary")).status_code == 500
    assert emulator.call("POST", HOTWORDS, json=hotwords("query_vocabulary", vocabulary_id="x")).status_code == 400


def test_both_shapes_of_a_list_are_one_operation_each_answered_in_its_own(emulator: Emulator) -> None:
    emulator.play(REFUSED)
    assert emulator.call("GET", FILES).json()["code"] == "InternalError"
    assert emulator.call("GET", "/compatible-mode/v1/files").json()["error"]["code"] == "InternalError"
    assert counts(emulator) == [(2, 2)]


def test_refused_calls_are_counted_and_keyless_and_own_ones_are_not(emulator: Emulator) -> None:
    emulator.play({**REFUSED, "operation": "*", "nth": 2})
    emulator.call("GET", FILES, key=None)
    emulator.call("GET", "/_emulator/info")
    assert emulator.call("GET", f"{FILES}/nothing").status_code == 400
    assert emulator.call("GET", FILES).status_code == 500
    assert counts(emulator) == [(2, 1)]


def test_of_effects_that_can_happen_once_the_first_rule_decides(emulator: Emulator) -> None:
    emulator.play({**REFUSED, "refuse": {"status": 503}}, {**REFUSED, "refuse": {"status": 502}})
    assert emulator.call("GET", FILES).status_code == 503
    assert counts(emulator) == [(1, 1), (1, 1)]


def test_the_ledger_names_the_rules_that_met_an_entry(emulator: Emulator) -> None:
    emulator.play(
        {"operation": "files.*", "name": "slow", "hold": {"real_s": 0}},
        {"operation": "files.create", "answer": {"status": 502}},
        {"operation": "files.create", "nth": 2, "name": "never here", "answer": {}},
    )
    assert emulator.call("POST", FILES, files={"files": ("a", b"a")}).status_code == 502
    (entry,) = emulator.ledger()
    assert entry["faults"] == ["slow", "files.create: answer"]


# Keeping


def test_new_rules_replace_the_old_or_are_added_and_each_counts_from_then(emulator: Emulator) -> None:
    emulator.play(REFUSED)
    statuses(emulator, 2)
    added = emulator.play({**REFUSED, "operation": "jobs.list"}, append=True)
    assert [(rule["name"], rule["calls"], rule["fired"]) for rule in added] == [
        ("files.list: refuse", 2, 2),
        ("jobs.list: refuse", 0, 0),
    ]
    assert added[0]["rule"] == REFUSED | {"refuse": {}}
    assert [rule["calls"] for rule in emulator.play(REFUSED)] == [0]
    assert emulator.play() == []
    assert statuses(emulator, 1) == [200]


def test_rules_have_an_end_also_when_they_are_added(emulator: Emulator) -> None:
    emulator.play(*[{**REFUSED, "nth": 9}] * RULES_MAX)
    headers = {"X-Emulator-Control": (emulator.data / "control-token").read_text()}
    body = {"faults": [REFUSED], "append": True}
    status, code, message = emulator.refused("POST", "/_emulator/faults", json=body, headers=headers)
    assert (status, code, message) == (400, "InvalidParameter", "there can be 1000 rules at most")
    assert len(counts(emulator)) == RULES_MAX


def test_a_mistake_leaves_the_rules_that_were(emulator: Emulator) -> None:
    emulator.play(REFUSED)
    headers = {"X-Emulator-Control": (emulator.data / "control-token").read_text()}
    body = {"faults": [{"operation": "files.lst", "refuse": {}}]}
    message = emulator.refused("POST", "/_emulator/faults", json=body, headers=headers)[2]
    assert message == "faults[0].operation: no operation is called 'files.lst'; did you mean 'files.list'?"
    assert statuses(emulator, 1) == [500]


def test_the_servers_of_a_folder_count_together(start: Start) -> None:
    """Two laptops at one service: the third call is the third, whoever makes it."""
    first, second = start(), start()
    first.play({**REFUSED, "nth": 3})
    answers = [statuses(emulator, 1)[0] for emulator in (first, second, first, second)]
    assert answers == [200, 200, 500, 200]
    assert counts(first) == counts(second) == [(4, 1)]


def test_the_first_server_of_a_folder_begins_without_rules(start: Start) -> None:
    """Else a fault of yesterday would be in the way of today's work; a second server changes nothing."""
    first = start()
    first.play(REFUSED)
    second = start()
    assert statuses(second, 1) == [500]
    first.backend.close()
    second.backend.close()
    third = start()
    assert counts(third) == []
    assert statuses(third, 1) == [200]


# Throttling, refusing, another answer


def test_a_rate_passes_and_says_when(emulator: Emulator) -> None:
    emulator.play({"operation": "files.create", "nth": 1, "throttle": "rate"})
    answer = emulator.call("POST", FILES, files={"files": ("a", b"a")})
    assert (answer.status_code, answer.json()["code"]) == (429, "Throttling.RateQuota")
    assert answer.headers["retry-after"] == "1"
    assert emulator.ledger() == []
    assert list(emulator.backend.uploads.iterdir()) == []
    assert emulator.upload(b"a")


def test_a_quota_says_that_waiting_is_no_use(emulator: Emulator) -> None:
    emulator.play({"operation": "jobs.create", "throttle": "quota"})
    body = {"model": "qwen3.5-9b", "training_file_ids": [emulator.upload(chat_rows(40))], "hyper_parameters": CORE}
    answer = emulator.call("POST", JOBS, json=body)
    message = "Only 20 fine-tune job in running or succeeded allowed per user."
    assert (answer.status_code, answer.json()["code"], answer.json()["message"]) == (429, "Throttling", message)
    assert "retry-after" not in answer.headers
    assert [entry["operation"] for entry in emulator.ledger()] == ["files.create"]


@pytest.mark.parametrize(
    ("status", "code"),
    [
        *((400, "InvalidParameter"), (401, "InvalidApiKey"), (403, "AccessDenied"), (404, "NotFound")),
        *((409, "Conflict"), (429, "Throttling.RateQuota"), (500, "InternalError"), (502, "InternalError")),
        *((503, "InternalError"), (504, "InternalError")),
    ],
)
def test_a_refusal_has_the_words_of_its_status_and_commits_nothing(emulator: Emulator, status: int, code: str) -> None:
    emulator.play({"operation": "files.create", "refuse": {"status": status}})
    answer = emulator.refused("POST", FILES, files={"files": ("a", b"a")})
    assert answer[:2] == (status, code)
    assert emulator.ledger() == []


def test_a_refusal_may_have_words_of_its_own(emulator: Emulator) -> None:
    own = {"status": 400, "code": "Arrearage", "message": "Access denied, please pay."}
    emulator.play({"operation": "deployments.create", "refuse": own})
    assert emulator.refused("POST", DEPLOYMENTS, json={}) == (400, "Arrearage", "Access denied, please pay.")


@pytest.mark.parametrize("status", [500, 502, 504])
def test_another_answer_hides_what_was_committed(emulator: Emulator, status: int) -> None:
    """The ambiguous answer a paid create must survive."""
    emulator.play({"operation": "files.create", "answer": {"status": status}})
    assert emulator.refused("POST", FILES, files={"files": ("a", b"a")})[:2] == (status, "InternalError")
    assert [entry["operation"] for entry in emulator.ledger()] == ["files.create"]
    assert shown(emulator) == ["a"]


def test_a_kept_answer_keeps_its_status_too(emulator: Emulator) -> None:
    """A refusal with another header must not turn into a success."""
    emulator.play({"operation": "files.*", "answer": {"retry_after": "7"}})
    refusal = emulator.call("GET", f"{FILES}/nothing")
    assert (refusal.status_code, refusal.json()["code"]) == (400, "InvalidParameter")
    assert refusal.headers["retry-after"] == "7"
    assert emulator.ok("GET", FILES)["data"]["total"] == 0


# Stale reads


def test_what_is_young_is_hidden_for_a_while(emulator: Emulator) -> None:
    emulator.upload(b"old", "old")
    emulator.advance(MINUTE)
    emulator.play({"operation": "files.list", "hide": {"emulated_s": 30}})
    file_id = emulator.upload(b"new", "new")
    listed = emulator.ok("GET", FILES)["data"]
    assert (listed["total"], [file["name"] for file in listed["files"]]) == (1, ["old"])
    assert emulator.ok("GET", f"{FILES}/{file_id}")["data"]["name"] == "new"  # only the list is stale
    emulator.advance(31)
    assert shown(emulator) == ["new", "old"]


def test_what_is_new_is_hidden_for_so_many_reads(emulator: Emulator) -> None:
    """For loops that count looks and not seconds."""
    emulator.upload(b"old", "old")
    emulator.play({"operation": "files.list", "hide": {"reads": 2}})
    emulator.upload(b"new", "new")
    assert [shown(emulator) for _ in range(4)] == [["old"], ["old"], ["new", "old"], ["new", "old"]]
    emulator.upload(b"newer", "newer")
    assert [shown(emulator) for _ in range(3)] == [["new", "old"], ["new", "old"], ["newer", "new", "old"]]


@pytest.mark.parametrize("measure", [{"emulated_s": MINUTE}, {"reads": 50}], ids=str)
def test_every_kind_can_be_hidden_from_its_reads(emulator: Emulator, measure: Json) -> None:
    emulator.play({"operation": "*", "hide": measure})
    job = emulator.job()["job_id"]
    deployed = emulator.deploy()["deployed_model"]
    words = [{"text": "x", "weight": 1}]
    vocabulary = emulator.vocabulary("create_vocabulary", target_model="paraformer-v2", prefix="a", vocabulary=words)
    phrases = {"model": "paraformer-v1", "training_type": "compile_asr_phrase"}
    emulator.ok("POST", JOBS, json={**phrases, "hyper_parameters": {"phrase_list": {"a": 1}}})
    for path in (f"{JOBS}/{job}", f"{JOBS}/{job}/logs", f"{DEPLOYMENTS}/{deployed}"):
        assert emulator.refused("GET", path)[0] == 404
    lists = [emulator.ok("GET", path)["output"] for path in (JOBS, DEPLOYMENTS, f"{JOBS}/outputs")]
    assert [output["total"] for output in lists] == [0, 0, 0]
    hidden = hotwords("query_vocabulary", vocabulary_id=vocabulary["vocabulary_id"])
    assert emulator.call("POST", HOTWORDS, json=hidden).status_code == 400
    assert emulator.vocabulary("list_vocabulary")["vocabulary_list"] == []


def test_a_stale_view_does_not_sell_a_suffix_twice(emulator: Emulator) -> None:
    """What must be unique is checked where it is written, however late the lists are."""
    emulator.play({"operation": "deployments.*", "hide": {"emulated_s": MINUTE}})
    emulator.deploy(suffix="once")
    body = {"model_name": "qwen3.5-9b", "plan": "mu", "deploy_spec": "MU1", "capacity": 4, "suffix": "once"}
    assert emulator.refused("POST", DEPLOYMENTS, json=body)[:2] == (409, "Conflict")
    assert [entry["operation"] for entry in emulator.ledger()] == ["deployments.create"]


def test_a_stale_view_does_not_let_two_jobs_train_at_once(emulator: Emulator) -> None:
    emulator.play({"operation": "jobs.*", "hide": {"emulated_s": MINUTE}})
    first, second = emulator.job()["job_id"], emulator.job()["job_id"]
    emulator.advance(5 * MINUTE)
    assert [emulator.job_now(job)["status"] for job in (first, second)] == ["RUNNING", "QUEUING"]


# Shifting pages


@pytest.mark.parametrize(
    ("shift", "pages"),
    [
        ("insert", [["5", "4"], ["4", "3"], ["2", "1"]]),
        ("delete", [["5", "4"], ["2", "1"], ["0"]]),
        ("repeat", [["5", "4"], ["5", "4"], ["3", "2"]]),
        ("reorder", [["5", "4"], ["2", "3"], ["1", "0"]]),
        (None, [["5", "4"], ["3", "2"], ["1", "0"]]),
    ],
)
def test_pages_shift_while_they_are_turned(emulator: Emulator, shift: str | None, pages: list[list[str]]) -> None:
    for number in range(6):
        emulator.upload(b"%d" % number, str(number))
    emulator.play({"operation": "files.list", "pages": {"shift": shift}})
    turned = [shown(emulator, f"?page_no={number}&page_size=2") for number in (1, 2, 3)]
    assert turned == pages


@pytest.mark.parametrize(("by", "total"), [(2, 5), (-1, 2), (-9, 0)])
def test_a_total_may_be_off_and_the_items_are_all_there(emulator: Emulator, by: int, total: int) -> None:
    for number in range(3):
        emulator.upload(b"%d" % number)
    emulator.play({"operation": "files.list", "pages": {"total": by}})
    data = emulator.ok("GET", FILES)["data"]
    assert (data["total"], len(data["files"])) == (total, 3)


@pytest.mark.parametrize("path", [JOBS, DEPLOYMENTS])
def test_jobs_and_deployments_shift_too(emulator: Emulator, path: str) -> None:
    emulator.play({"operation": "*.list", "pages": {"shift": "repeat"}})
    for _ in range(3):
        emulator.job()
        emulator.deploy()
    first, second = (emulator.ok("GET", f"{path}?page_no={number}&page_size=1")["output"] for number in (1, 2))
    name = path.rpartition("/")[2].replace("fine-tunes", "jobs")
    assert first[name] == second[name] != []
