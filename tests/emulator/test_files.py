"""Files over both endpoints: contract §1, and the bodies the official clients really send."""

from __future__ import annotations

import hashlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest

from reconciler.emulator.catalogue import Limits
from tests.emulator.stand import Emulator, Start, chat_rows

FILES, OPENAI = "/api/v1/files", "/compatible-mode/v1/files"
HUGE = ("page_no=0000000000010000000000000000001", f"page_no={'0' * 5000}{'9' * 30}")  # past what a database counts


def limit(emulator: Emulator, **numbers: int) -> None:
    """Smaller quotas than any real account has."""
    limits = replace(Limits(file_bytes=100, total_bytes=100, files=100), **numbers)
    catalogue = replace(emulator.backend.catalogue, file_limits={"old": limits, "new": limits})
    emulator.backend.catalogue = catalogue


def test_an_uploaded_file_is_read_back_with_what_the_server_knows_of_it(emulator: Emulator) -> None:
    """md5 and size are the natural key of a file; description is the only mark a client can leave."""
    content = chat_rows(3)
    file_id = emulator.upload(content, "训练.jsonl", "标记 mark")
    file = emulator.ok("GET", f"{FILES}/{file_id}")["data"]
    assert file["file_id"] == file_id
    assert (file["name"], file["description"]) == ("训练.jsonl", "标记 mark")
    assert (file["size"], file["md5"]) == (len(content), hashlib.md5(content).hexdigest())
    assert file["gmt_create"] == "2026-11-02 14:05:00"
    assert "Expires=" in file["url"]
    assert not {"id", "region", "user_id", "api_key_id", "purpose"} & file.keys()


def test_several_files_in_one_request_pair_their_descriptions_by_position(emulator: Emulator) -> None:
    parts = [("files", ("a.jsonl", b"a")), ("files", ("b.jsonl", b"b")), ("files", ("c.jsonl", b"c"))]
    body = emulator.ok("POST", FILES, files=parts, data={"descriptions": ["first", "second"]})
    ids = [file["file_id"] for file in body["data"]["uploaded_files"]]
    shown = [emulator.ok("GET", f"{FILES}/{file_id}")["data"] for file_id in ids]
    assert [(file["name"], file["description"]) for file in shown] == [
        ("a.jsonl", "first"),
        ("b.jsonl", "second"),
        ("c.jsonl", ""),
    ]


@pytest.mark.parametrize("part", [("a.jsonl", b"x"), ("a.jsonl", b"x", "application/octet-stream")])
def test_the_part_is_taken_with_and_without_a_content_type(emulator: Emulator, part: Any) -> None:
    """The old and the new client differ here."""
    assert emulator.ok("POST", FILES, files={"files": part})["data"]["uploaded_files"][0]["name"] == "a.jsonl"


def test_a_name_is_a_name_and_never_a_path(emulator: Emulator) -> None:
    file_id = emulator.upload(b"x", "../../../etc/passwd")
    assert emulator.ok("GET", f"{FILES}/{file_id}")["data"]["name"] == "passwd"


def test_the_same_content_twice_makes_two_files(emulator: Emulator) -> None:
    """No idempotency key exists, so a client that repeats an upload owns both."""
    assert emulator.upload(b"same") != emulator.upload(b"same")
    assert emulator.ok("GET", FILES)["data"]["total"] == 2


def test_the_list_pages_newest_first(emulator: Emulator) -> None:
    ids = [emulator.upload(b"%d" % number) for number in range(3)]
    data = emulator.ok("GET", f"{FILES}?page_no=2&page_size=2")["data"]
    assert (data["total"], data["page_no"], data["page_size"]) == (3, 2, 2)
    (file,) = data["files"]
    assert file["file_id"] == ids[0]
    assert isinstance(file["id"], int)
    assert file["region"] == "cn-beijing"
    assert all(isinstance(file[name], str) for name in ("user_id", "api_key_id", "purpose", "description"))
    assert emulator.ok("GET", f"{FILES}?page_no=9&page_size=2")["data"]["files"] == []


@pytest.mark.parametrize("query", ["page_no=0", "page_size=0", "page_size=101", "page_no=one", "page_no=1_0", *HUGE])
def test_a_page_that_cannot_be_is_refused(emulator: Emulator, query: str) -> None:
    assert emulator.refused("GET", f"{FILES}?{query}")[:2] == (400, "InvalidParameter")


def test_deleting_removes_record_and_bytes(emulator: Emulator) -> None:
    file_id = emulator.upload(b"x")
    assert emulator.ok("DELETE", f"{FILES}/{file_id}").keys() == {"request_id"}
    missing = (400, "InvalidParameter", "File not found.")
    assert emulator.refused("GET", f"{FILES}/{file_id}") == missing
    assert emulator.refused("DELETE", f"{FILES}/{file_id}") == missing
    assert list(emulator.backend.uploads.iterdir()) == []


@pytest.mark.parametrize(
    ("quota", "code", "message"),
    [
        ({"file_bytes": 3}, "BadRequest.TooLarge", "The size of b.jsonl exceeds the limit of 3 B."),
        ({"total_bytes": 5}, "BadRequest.TooLarge", "Out of space, 3 B of 5 B storage space has been used."),
        ({"files": 1}, "BadRequest.TooMany", "Out of number, 1 of 1 files has been uploaded."),
    ],
)
def test_a_refused_file_hides_in_a_success(emulator: Emulator, quota: dict[str, int], code: str, message: str) -> None:
    """HTTP 200 with a failure inside: the trap of this endpoint. Nothing of the refused file stays."""
    emulator.upload(b"aaa")
    limit(emulator, **quota)
    data = emulator.ok("POST", FILES, files={"files": ("b.jsonl", b"bbbb")})["data"]
    assert data == {"uploaded_files": [], "failed_uploads": [{"name": "b.jsonl", "code": code, "message": message}]}
    assert len(list(emulator.backend.uploads.iterdir())) == 1
    assert len(emulator.ledger()) == 1


def test_one_of_two_files_may_be_refused(emulator: Emulator) -> None:
    limit(emulator, files=1)
    data = emulator.ok("POST", FILES, files=[("files", ("a", b"a")), ("files", ("b", b"b"))])["data"]
    assert [file["name"] for file in data["uploaded_files"]] == ["a"]
    assert [file["name"] for file in data["failed_uploads"]] == ["b"]


@pytest.mark.parametrize(("position", "files", "gigabytes", "more"), [("old", 100, 5, 0), ("new", 10_000, 100, 1)])
def test_the_limits_are_those_of_the_switch(start: Start, position: str, files: int, gigabytes: int, more: int) -> None:
    """A hundred files fit everywhere, and one more where it is today."""
    emulator = start(files__limits=position)
    hundred = [("files", (f"{number}", b"x")) for number in range(100)]
    assert len(emulator.ok("POST", FILES, files=hundred)["data"]["uploaded_files"]) == 100
    assert len(emulator.ok("POST", FILES, files=hundred[:1])["data"]["uploaded_files"]) == more
    limits = emulator.backend.catalogue.file_limits[position]
    assert (limits.files, limits.total_bytes >> 30) == (files, gigabytes)


@pytest.mark.parametrize("request_", [{"data": {"descriptions": "x"}}, {"json": {}}, {"content": b"--x"}, {}])
def test_an_upload_without_a_file_is_refused(emulator: Emulator, request_: Any) -> None:
    assert emulator.refused("POST", FILES, **request_)[:2] == (400, "InvalidParameter")


@pytest.mark.parametrize(("position", "shown"), [("off", ""), ("on", "fine-tune")])
def test_the_native_endpoint_forgets_the_purpose_unless_switched(start: Start, position: str, shown: str) -> None:
    emulator = start(files__native_stores_purpose=position)
    emulator.ok("POST", FILES, files={"files": ("a", b"a")}, data={"purpose": "fine-tune"})
    assert emulator.ok("GET", FILES)["data"]["files"][0]["purpose"] == shown


@pytest.mark.parametrize(("position", "status"), [("allow", 200), ("refuse", 400)])
def test_deleting_a_file_in_use(start: Start, position: str, status: int) -> None:
    """Nobody documents it; a client must survive both."""
    emulator = start(files__delete_in_use=position)
    file_id = emulator.upload(chat_rows(40))
    emulator.job(training_file_ids=[file_id])
    assert emulator.call("DELETE", f"{FILES}/{file_id}").status_code == status
    emulator.advance(7200)
    assert emulator.call("DELETE", f"{FILES}/{file_id}").status_code == (400 if position == "allow" else 200)


def test_many_threads_may_upload_at_once(emulator: Emulator) -> None:
    with ThreadPoolExecutor(8) as pool:
        ids = list(pool.map(emulator.upload, [b"%d" % number for number in range(24)]))
    assert len(set(ids)) == 24
    assert emulator.ok("GET", FILES)["data"]["total"] == 24
    assert len(emulator.ledger()) == 24


def test_the_openai_shape_is_flat_and_has_no_room_for_a_description(emulator: Emulator) -> None:
    file = emulator.ok("POST", OPENAI, files={"file": ("a.jsonl", b"abc")}, data={"purpose": "fine-tune"})
    assert file.pop("request_id")
    assert file.pop("id").startswith("file-ft-")
    assert file == {
        "object": "file",
        "bytes": 3,
        "filename": "a.jsonl",
        "purpose": "fine-tune",
        "status": "processed",
        "status_details": None,
        "created_at": 1793599500,
    }


def test_a_file_of_the_openai_shape_shows_in_the_native_list_and_not_the_other_way(emulator: Emulator) -> None:
    emulator.upload(b"native")
    file_id = emulator.ok("POST", OPENAI, files={"file": ("a", b"a")}, data={"purpose": "batch"})["id"]
    assert emulator.ok("GET", FILES)["data"]["total"] == 2
    assert [file["id"] for file in emulator.ok("GET", OPENAI)["data"]] == [file_id]


def test_the_openai_list_goes_on_after_an_id_and_filters(emulator: Emulator) -> None:
    made = []
    for purpose in ("batch", "file-extract", "batch"):
        made.append(emulator.ok("POST", OPENAI, files={"file": ("a", b"a")}, data={"purpose": purpose})["id"])
        emulator.advance(60)
    page = emulator.ok("GET", f"{OPENAI}?limit=2")
    assert ([file["id"] for file in page["data"]], page["has_more"]) == ([made[2], made[1]], True)
    rest = emulator.ok("GET", f"{OPENAI}?limit=2&after={made[1]}")
    assert ([file["id"] for file in rest["data"]], rest["has_more"]) == ([made[0]], False)
    assert len(emulator.ok("GET", f"{OPENAI}?purpose=batch")["data"]) == 2
    assert len(emulator.ok("GET", f"{OPENAI}?create_after=20261102140530")["data"]) == 2
    assert len(emulator.ok("GET", f"{OPENAI}?create_before=20261102140530")["data"]) == 1


def test_the_openai_shape_gets_and_deletes(emulator: Emulator) -> None:
    file_id = emulator.ok("POST", OPENAI, files={"file": ("a", b"a")}, data={"purpose": "batch"})["id"]
    assert emulator.ok("GET", f"{OPENAI}/{file_id}")["bytes"] == 1
    deleted = emulator.ok("DELETE", f"{OPENAI}/{file_id}")
    assert (deleted["object"], deleted["deleted"], deleted["id"]) == ("file", True, file_id)
    error = emulator.call("GET", f"{OPENAI}/{file_id}")
    assert error.status_code == 400
    assert error.json()["error"] == {
        "message": "File not found.",
        "type": "invalid_request_error",
        "code": "InvalidParameter",
        "param": None,
    }


@pytest.mark.parametrize("form", [{}, {"purpose": "fine_tune"}, {"purpose": "batch", "descriptions": "x"}])
def test_the_openai_shape_is_strict(emulator: Emulator, form: dict[str, str]) -> None:
    """A purpose is required and known; a field of the native form is refused (contract §1.5)."""
    assert emulator.call("POST", OPENAI, files={"file": ("a", b"a")}, data=form).status_code == 400


@pytest.mark.parametrize(
    ("quota", "message"),
    [({"files": 0}, "Upload file number exceed limit."), ({"total_bytes": 0}, "Upload file capacity exceed limit.")],
)
def test_the_openai_shape_has_its_own_words_for_a_quota(
    emulator: Emulator, quota: dict[str, int], message: str
) -> None:
    limit(emulator, **quota)
    error = emulator.call("POST", OPENAI, files={"file": ("a", b"a")}, data={"purpose": "batch"})
    assert error.status_code == 400
    assert error.json()["error"]["message"] == message


def test_december_2024_has_no_openai_shape(old: Emulator) -> None:
    assert old.call("GET", OPENAI).status_code == 404


def test_the_link_of_a_file_leads_to_its_content_for_an_hour_and_without_a_key(emulator: Emulator) -> None:
    """It stands for object storage: whoever has the link has the file, so it is never shown by a list."""
    content = chat_rows(3)
    file_id = emulator.upload(content)
    (listed,) = emulator.ok("GET", FILES)["data"]["files"]
    assert "Signature" not in listed["url"]
    link = emulator.ok("GET", f"{FILES}/{file_id}")["data"]["url"]
    got = emulator.call("GET", link, key=None)
    assert (got.status_code, got.content) == (200, content)
    for wrong in (
        link.replace("Signature=", "Signature=0"),
        link.partition("?")[0],
        link.replace("Expires=", "Expires=9"),
    ):
        assert emulator.call("GET", wrong, key=None).status_code == 403
    emulator.advance(3601)
    assert emulator.call("GET", link, key=None).status_code == 403


def test_the_link_of_a_deleted_file_leads_nowhere(emulator: Emulator) -> None:
    file_id = emulator.upload(chat_rows(3))
    link = emulator.ok("GET", f"{FILES}/{file_id}")["data"]["url"]
    emulator.ok("DELETE", f"{FILES}/{file_id}")
    assert emulator.call("GET", link, key=None).status_code == 403
