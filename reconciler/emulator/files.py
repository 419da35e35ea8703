"""Files: the native endpoint (contract §1.1 to §1.4) and the OpenAI-shaped one (§1.5) over the same uploads.

A refused file is not an error of the request on the native side: HTTP 200 names it under `failed_uploads`.
"""

from __future__ import annotations

import hashlib
import os
import uuid
from urllib.parse import quote

from reconciler.emulator import clock, jobs
from reconciler.emulator.account import account_id
from reconciler.emulator.backend import Transaction
from reconciler.emulator.fields import Json, query_integer
from reconciler.emulator.refusal import Refusal, bad_parameter, denied, invalid, too_large, unsupported
from reconciler.emulator.schemas import BYTES, FLAG, TEXT, WHOLE, answer, numbered, paged, several, shape, word
from reconciler.emulator.switches import NEW
from reconciler.emulator.wire import Call, Reply, Route, Stored, Upload, form_call, page

LINK_S = 3600
PURPOSES = {"fine-tune": "ft", "file-extract": "fe", "batch": "batch"}


def upload(tx: Transaction, call: Call) -> Reply:
    parts = [part for part in call.uploads if part.field == "files"]
    if not parts:
        raise bad_parameter("files")
    descriptions = call.body.get("descriptions", [])
    purpose = call.body.get("purpose", [""])[0] if tx.switches.on("files.native_stores_purpose") else ""
    uploaded, failed = [], []
    for position, part in enumerate(parts):
        try:
            file = _store(
                tx,
                part,
                file_id=str(uuid.uuid4()),
                description=descriptions[position] if position < len(descriptions) else "",
                purpose=purpose,
            )
            uploaded.append({"file_id": file["file_id"], "name": file["name"]})
        except Refusal as refusal:
            failed.append({"name": part.filename, "code": refusal.code, "message": refusal.message})
    return {"data": {"uploaded_files": uploaded, "failed_uploads": failed}}


def listing(tx: Transaction, call: Call) -> Reply:
    number, size = page(call, size=10, most=100)
    total, files = tx.page("files", number, size)
    return {
        "data": {"total": total, "page_no": number, "page_size": size, "files": [_listed(tx, file) for file in files]}
    }


def get(tx: Transaction, call: Call) -> Reply:
    file = _existing(tx, call.path["file_id"])
    return {"data": _shown(file, url=_signed_url(tx, file, call.headers.get("host", "")))}


def content(tx: Transaction, call: Call) -> Reply:
    """What object storage would serve, to whoever has the link and to nobody else."""
    file, expires = tx.get("files", call.path["file_id"]), call.query.get("Expires", "")
    good = file is not None and expires.isdigit() and int(expires) >= tx.now_s
    if file is None or not good or call.query.get("Signature", "") != _signature(tx, file["file_id"], int(expires)):
        raise denied("Request has expired, or its signature does not match.")
    return Stored(tx.backend.uploads / file["file_id"])


def delete(tx: Transaction, call: Call) -> Reply:
    _delete(tx, call.path["file_id"])
    return {}


def openai_upload(tx: Transaction, call: Call) -> Reply:
    part = next((part for part in call.uploads if part.field == "file"), None)
    purpose = call.body.get("purpose", [""])[0]
    if part is None:
        raise bad_parameter("file")
    if purpose not in PURPOSES:
        raise bad_parameter("purpose")
    file_id = f"file-{PURPOSES[purpose]}-{uuid.uuid4().hex[:24]}"
    return _openai(_store(tx, part, file_id=file_id, purpose=purpose))


def openai_listing(tx: Transaction, call: Call) -> Reply:
    """Newest first, from behind `after`; only files that came by this endpoint."""
    limit = query_integer(call.query, "limit", 2000, least=1, most=2000)
    files = [file for file in reversed(tx.all("files")) if _asked_for(file, call)]
    names = [file["file_id"] for file in files]
    after = call.query.get("after")
    start = names.index(after) + 1 if after in names else 0
    found = files[start : start + limit]
    return {"object": "list", "has_more": start + limit < len(files), "data": [_openai(file) for file in found]}


def openai_get(tx: Transaction, call: Call) -> Reply:
    return _openai(_existing(tx, call.path["file_id"]))


def openai_delete(tx: Transaction, call: Call) -> Reply:
    _delete(tx, call.path["file_id"])
    return {"object": "file", "deleted": True, "id": call.path["file_id"]}


def _store(tx: Transaction, part: Upload, *, file_id: str, description: str = "", purpose: str = "") -> Json:
    """Takes the bytes over under the new id. Raises the refusal that names the limit reached (contract §1.1, §1.3)."""
    _check_limits(tx, part, openai=file_id.startswith("file-"))
    file: Json = {
        "id": tx.draw("files").randrange(10**6, 10**7),
        "file_id": file_id,
        "name": part.filename,
        "description": description,
        "size": part.size,
        "md5": part.md5,
        "created_s": tx.now_s,
        "purpose": purpose,
    }
    os.replace(part.path, tx.backend.uploads / file_id)
    tx.insert("files", file_id, file)
    tx.record(file_id, name=part.filename, description=description, size=part.size, md5=part.md5)
    return file


def _check_limits(tx: Transaction, part: Upload, *, openai: bool) -> None:
    limits = tx.catalogue.file_limits[tx.switches.choice("files.limits")]
    count, used = tx.count_and_size("files")
    if part.size > limits.file_bytes:
        raise too_large(f"The size of {part.filename} exceeds the limit of {limits.file_bytes} B.")
    if count >= limits.files:
        message = f"Out of number, {count} of {limits.files} files has been uploaded."
        raise Refusal(400, "BadRequest.TooMany", "Upload file number exceed limit." if openai else message)
    if used + part.size > limits.total_bytes:
        message = f"Out of space, {used} B of {limits.total_bytes} B storage space has been used."
        raise too_large("Upload file capacity exceed limit." if openai else message)


def _delete(tx: Transaction, file_id: str) -> None:
    _existing(tx, file_id)
    if tx.switches.choice("files.delete_in_use") == "refuse" and jobs.uses_file(tx, file_id):
        raise unsupported("The file can not be deleted because a fine-tune job uses it")
    tx.remove("files", file_id)
    tx.record(file_id)
    tx.after_commit.append((tx.backend.uploads / file_id).unlink)


def _existing(tx: Transaction, file_id: str) -> Json:
    file = tx.get("files", file_id)
    if file is None:
        raise invalid("File not found.")
    return file


def _listed(tx: Transaction, file: Json) -> Json:
    account = account_id(tx)
    return {
        "id": file["id"],
        **_shown(file, url=_url(file)),
        "region": "cn-beijing",
        "user_id": account,
        "api_key_id": account[-6:],
        "purpose": file["purpose"],
    }


def _shown(file: Json, *, url: str) -> Json:
    shown = {name: file[name] for name in ("file_id", "name", "description", "size", "md5")}
    return {**shown, "gmt_create": clock.spaced(file["created_s"]), "url": url}


def _url(file: Json) -> str:
    return f"https://files.emulator.invalid/{file['file_id']}/{quote(file['name'], safe='')}"


def _signed_url(tx: Transaction, file: Json, host: str) -> str:
    """A link into object storage, which is a secret: good for an hour, and here for this computer alone."""
    expires = int(tx.now_s) + LINK_S
    query = f"Expires={expires}&Signature={_signature(tx, file['file_id'], expires)}"
    return f"http://{host}/_emulator/files/{file['file_id']}?{query}"


def _signature(tx: Transaction, file_id: str, expires: int) -> str:
    return hashlib.sha256(f"{tx.backend.install_id}/{file_id}/{expires}".encode()).hexdigest()[:32]


def _openai(file: Json) -> Json:
    return {
        "id": file["file_id"],
        "object": "file",
        "bytes": file["size"],
        "filename": file["name"],
        "purpose": file["purpose"],
        "status": "processed",
        "status_details": None,
        "created_at": int(file["created_s"]),
    }


def _asked_for(file: Json, call: Call) -> bool:
    created = clock.beijing(file["created_s"]).strftime("%Y%m%d%H%M%S")
    return (
        file["file_id"].startswith("file-")
        and call.query.get("purpose", file["purpose"]) == file["purpose"]
        and created >= call.query.get("create_after", "")
        and created <= call.query.get("create_before", "9")
    )


FILE = shape(
    dict.fromkeys(("file_id", "name", "description", "md5", "gmt_create", "url"), TEXT) | {"size": WHOLE},
    {"id": WHOLE, "region": TEXT, "user_id": TEXT, "api_key_id": TEXT, "purpose": TEXT},
)
OPENAI_FILE = {
    **dict.fromkeys(("id", "object", "filename", "purpose", "status"), TEXT),
    "bytes": WHOLE,
    "created_at": WHOLE,
}
UPLOADED = shape(
    {
        "uploaded_files": several(shape({"file_id": TEXT, "name": TEXT})),
        "failed_uploads": several(shape({"name": TEXT, "code": TEXT, "message": TEXT})),
    }
)
ROUTES = (
    Route(
        "POST",
        "/api/v1/files",
        "files.create",
        upload,
        body={"files": several(BYTES), "descriptions": several(TEXT), "purpose": TEXT},
        required=("files",),
        answer=answer(data=UPLOADED),
        receive=form_call,
    ),
    Route(
        "GET",
        "/api/v1/files",
        "files.list",
        listing,
        query=paged(10, 100),
        answer=answer(data=numbered("files", FILE)),
    ),
    Route("GET", "/api/v1/files/{file_id}", "files.get", get, answer=answer(data=FILE)),
    Route("DELETE", "/api/v1/files/{file_id}", "files.delete", delete),
    Route(
        "POST",
        "/compatible-mode/v1/files",
        "files.create",
        openai_upload,
        body={"file": BYTES, "purpose": word(*PURPOSES)},
        required=("file", "purpose"),
        answer=answer(**OPENAI_FILE),
        receive=form_call,
        profiles=(NEW,),
    ),
    Route(
        "GET",
        "/compatible-mode/v1/files",
        "files.list",
        openai_listing,
        query={"limit": WHOLE, "after": TEXT, "purpose": TEXT, "create_after": TEXT, "create_before": TEXT},
        answer=answer(object=TEXT, has_more=FLAG, data=several(shape(OPENAI_FILE))),
        profiles=(NEW,),
    ),
    Route(
        "GET",
        "/compatible-mode/v1/files/{file_id}",
        "files.get",
        openai_get,
        answer=answer(**OPENAI_FILE),
        profiles=(NEW,),
    ),
    Route(
        "DELETE",
        "/compatible-mode/v1/files/{file_id}",
        "files.delete",
        openai_delete,
        answer=answer(id=TEXT, object=TEXT, deleted=FLAG),
        profiles=(NEW,),
    ),
)
CONTENT = Route(
    "GET",
    "/_emulator/files/{file_id}",
    "emulator.content",
    content,
    query={"Expires": WHOLE, "Signature": TEXT},
    answer=BYTES,
    access="loopback",
)
