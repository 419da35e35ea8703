"""Goal 16: a file to a far end that takes whatever comes, by us and by what else could send it."""

from __future__ import annotations

import hashlib
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from tests.bench import rivals
from tests.bench.figures import Figure, Skipped, Told, against
from tests.bench.measure import Cost, in_turn, middle, ratio
from tests.bench.place import REPOSITORY, Bench

SMALL, LARGE = 300 * 2**20, 2_000 * 2**20
BLOCK = 1 << 20
ANSWER = b'{"data":{"uploaded_files":[{"file_id":"f","name":"n"}],"failed_uploads":[]},"request_id":"r"}'

SENDFILE = """
import os, socket, sys
path, port = sys.argv[1], int(sys.argv[2])
head = b'--b\\r\\nContent-Disposition: form-data; name="files"; filename="rows.jsonl"\\r\\n\\r\\n'
tail, size = b'\\r\\n--b--\\r\\n', os.path.getsize(path)
with socket.create_connection(("127.0.0.1", port)) as line, open(path, "rb") as file:
    length = len(head) + size + len(tail)
    start = f"POST /api/v1/files HTTP/1.1\\r\\nHost: x\\r\\nContent-Type: multipart/form-data; boundary=b\\r\\n"
    line.sendall(start.encode() + f"Content-Length: {length}\\r\\n\\r\\n".encode() + head)
    line.sendfile(file)
    line.sendall(tail)
    assert b" 200 " in line.recv(65536)
"""
SDK = """
import sys, dashscope
dashscope.base_http_api_url, dashscope.api_key = f"http://127.0.0.1:{sys.argv[2]}/api/v1", "local"
answer = dashscope.Files.upload(sys.argv[1], purpose="inference")  # for fine_tune it reads all of it once more
assert answer.status_code == 200, answer
"""
START = """
from reconciler.api import Api, Key
from reconciler.data import stream
Api("http://127.0.0.1:1", Key("local"))
"""


def uploads(bench: Bench) -> Iterator[Told]:
    """Peak memory is above that of a process that has loaded the same and sent nothing."""
    peaks: dict[int, float] = {}
    idle = bench.run(sys.executable, "-c", START, folder=REPOSITORY)
    try:
        sdk = rivals.sdk()
    except rivals.Absent as error:
        sdk = None
        yield Skipped(16, "upload beside the official SDK", str(error))
    for size in (SMALL, LARGE):
        path = bench.folder / "rows.jsonl"
        with path.open("wb") as file:
            file.truncate(size)
        md5 = _md5(path)
        with sink() as port:
            url = f"http://127.0.0.1:{port}/api/v1/files"
            send = (sys.executable, "-m", "tests.bench.upload", path, f"{port}", md5)
            deeds: dict[str, Callable[[], Cost]] = {
                "ours": partial(bench.run, *send, folder=REPOSITORY),
                "sendfile": partial(bench.run, sys.executable, "-c", SENDFILE, path, f"{port}"),
                "curl -F": partial(bench.run, "curl", "-sSf", "-H", "Expect:", "-F", f"files=@{path}", url),
            }
            if sdk:
                deeds["official SDK"] = partial(bench.run, sdk, "-c", SDK, path, f"{port}")
            taken = in_turn(deeds, 1 if bench.quick else 3)
        path.unlink()
        yield from _told(size, taken, large=size == LARGE)
        peaks[size] = middle(taken["ours"], "rss_mb")
    times = ratio([peaks[LARGE]], [peaks[SMALL]])
    yield Figure(
        16, "peak memory of an upload, MiB", LARGE >> 20, peaks[LARGE], "MB", 1.05, "at 300 MB", peaks[SMALL], times
    )
    yield Figure(16, "peak memory above a start", LARGE >> 20, peaks[LARGE] - idle.rss_mb, "MB", 45)


def _told(size: int, taken: dict[str, list[Cost]], *, large: bool) -> Iterator[Told]:
    """Sizes are in MiB."""
    pairs = [
        ("wall_s", "sendfile", 2.5),
        ("wall_s", "curl -F", 1.2),
        ("cpu_s", "official SDK", 0.25),
        ("rss_mb", "official SDK", None),
    ]
    for aspect, rival, most in pairs:
        if rival in taken:
            judged = most if large else None
            yield against(16, "upload, MiB", size >> 20, aspect, taken["ours"], rival, taken[rival], judged)


def _md5(path: Path) -> str:
    """In blocks: this process must stay small."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "md5").hexdigest()


# The far end ----------------------------------------------------------------------------------------------------------


@contextmanager
def sink() -> Iterator[int]:
    """A process that reads whatever is posted to its port and finds it good."""
    line = (sys.executable, "-c", "from tests.bench.upload import drain; drain()")
    process = subprocess.Popen(line, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout
        yield int(process.stdout.readline())
    finally:
        process.terminate()
        process.wait()


def drain() -> None:
    """One connection after the other, for ever."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        print(listener.getsockname()[1], flush=True)
        while True:
            line, _ = listener.accept()
            with line:
                _take(line, memoryview(bytearray(BLOCK)))


def _take(line: socket.socket, block: memoryview) -> None:
    head = b""
    while b"\r\n\r\n" not in head:
        piece = line.recv(65536)
        if not piece:
            return
        head += piece
    head, _, body = head.partition(b"\r\n\r\n")
    fields = dict(one.lower().split(b": ", 1) for one in head.split(b"\r\n")[1:])
    left = int(fields.get(b"content-length", b"0")) - len(body)
    while left > 0 and (size := line.recv_into(block)):
        left -= size
    line.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\n")
    line.sendall(b"Content-Length: %d\r\n\r\n%b" % (len(ANSWER), ANSWER))


# Ours, in a process of its own ----------------------------------------------------------------------------------------


def send(path: Path, port: int, md5: str) -> None:
    """What `apply` does with the file of a Dataset: it is read once, hashed on the way and sent."""
    from reconciler.api import Api, Key
    from reconciler.data import stream
    from reconciler.files import Tree
    from reconciler.resource import Content, Effect, Request

    content = Content(path.name, (path.name,), path.stat().st_size, md5)
    request = Request("files.create", "POST", "/files", effect=Effect.ONCE, content=content)
    tree = Tree(path.parent)
    with Api(f"http://127.0.0.1:{port}", Key("local"), contents=lambda one: stream(tree, one)) as api:
        assert api.send(request).body["data"]["uploaded_files"]


if __name__ == "__main__":
    send(Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3])
