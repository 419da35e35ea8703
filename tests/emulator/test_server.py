"""A real server on a real loopback port."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from reconciler.emulator.server import control_token, serve
from tests.emulator.stand import CORE, KEY, chat_rows

AUTH = {"Authorization": f"Bearer {KEY}"}
FOREGROUND = """
import sys
from pathlib import Path
from reconciler.emulator.server import run
run(Path(sys.argv[1]), announce=lambda origin: print(origin, flush=True))
print("stopped")
"""


def upload(client: httpx.Client, content: bytes) -> str:
    answer = client.post("/api/v1/files", files={"files": ("a.jsonl", content)})
    file_id: str = answer.json()["data"]["uploaded_files"][0]["file_id"]
    return file_id


def test_serves_loopback_and_says_when_by_its_own_clock(tmp_path: Path) -> None:
    """One Date header, the emulated one; no name of the server software."""
    with serve(tmp_path, speed=0) as origin, httpx.Client(base_url=origin, headers=AUTH) as client:
        assert origin.startswith("http://127.0.0.1:")
        token = {"X-Emulator-Control": control_token(tmp_path)}
        client.post("/_emulator/clock", json={"advance_s": 10 * 24 * 3600}, headers=token)
        answer = client.get("/api/v1/files")
        assert len(answer.headers.get_list("date")) == 1
        assert "server" not in answer.headers
        ahead = time.mktime(time.strptime(answer.headers["date"], "%a, %d %b %Y %H:%M:%S GMT")) - time.time()
        assert ahead > 8 * 24 * 3600


def test_stops_with_connections_left_open(tmp_path: Path) -> None:
    """A client pool keeps its connections; a server that waited for them would hang every command."""
    with httpx.Client(headers=AUTH) as client:
        with serve(tmp_path) as origin:
            client.get(f"{origin}/api/v1/files")
        with pytest.raises(httpx.TransportError):
            client.get(f"{origin}/api/v1/files")


def test_stops_while_somebody_follows_a_job(tmp_path: Path) -> None:
    """An event stream stays open as long as its job, but not longer than its server."""
    ended = threading.Event()
    following = threading.Event()

    def follow(origin: str, job_id: str) -> None:
        with httpx.stream("GET", f"{origin}/api/v1/fine-tunes/{job_id}/stream", headers=AUTH, timeout=60) as answer:
            for _ in answer.iter_lines():
                following.set()
        ended.set()

    with serve(tmp_path, speed=0) as origin, httpx.Client(base_url=origin, headers=AUTH) as client:
        body = {"model": "qwen3.5-9b", "training_file_ids": [upload(client, chat_rows(40))], "hyper_parameters": CORE}
        job_id = client.post("/api/v1/fine-tunes", json=body).json()["output"]["job_id"]
        thread = threading.Thread(target=follow, args=(origin, job_id))
        thread.start()
        assert following.wait(30)
        assert not ended.is_set()
    thread.join(30)
    assert ended.is_set()


def test_the_event_stream_follows_a_job_to_its_end(tmp_path: Path) -> None:
    with serve(tmp_path, speed=20_000) as origin, httpx.Client(base_url=origin, headers=AUTH, timeout=60) as client:
        body = {"model": "qwen3.5-9b", "training_file_ids": [upload(client, chat_rows(40))], "hyper_parameters": CORE}
        job_id = client.post("/api/v1/fine-tunes", json=body).json()["output"]["job_id"]
        with client.stream("GET", f"/api/v1/fine-tunes/{job_id}/stream") as answer:
            lines = [line for line in answer.iter_lines() if line]
        assert all(line.startswith("data:") for line in lines)
        assert "##FT_COMPLETE##" in lines[-1]
        assert client.get(f"/api/v1/fine-tunes/{job_id}").json()["output"]["status"] == "SUCCEEDED"


def test_two_servers_of_one_folder_buy_under_one_ledger(tmp_path: Path) -> None:
    with serve(tmp_path) as first, serve(tmp_path) as second, ThreadPoolExecutor(8) as pool:
        clients = [httpx.Client(base_url=origin, headers=AUTH, timeout=60) for origin in (first, second)]
        ids = list(pool.map(lambda number: upload(clients[number % 2], b"%d" % number), range(20)))
        ledgers = [client.get("/_emulator/ledger").json()["entries"] for client in clients]
        for client in clients:
            client.close()
    assert ledgers[0] == ledgers[1]
    assert sorted(entry["id"] for entry in ledgers[0]) == sorted(ids)
    assert [entry["seq"] for entry in ledgers[0]] == list(range(1, 21))


def test_a_suffix_is_sold_once_to_racing_clients(tmp_path: Path) -> None:
    """Two laptops, two servers, one suffix."""
    body = {"model_name": "qwen3.5-9b", "plan": "mu", "deploy_spec": "MU1", "capacity": 4, "suffix": "once"}

    def create(origin: str) -> int:
        return httpx.post(f"{origin}/api/v1/deployments", json=body, headers=AUTH, timeout=60).status_code

    with serve(tmp_path) as first, serve(tmp_path) as second, ThreadPoolExecutor(8) as pool:
        assert sorted(pool.map(create, [first, second] * 4)) == [200] + [409] * 7


def test_a_taken_port_is_an_error_and_no_other_port(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(OSError, match="in use"), serve(tmp_path, port=port):
            pass


def test_an_unknown_switch_starts_nothing(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="did you mean"), serve(tmp_path, switches={"jobs.paralel": 2}):
        pass


def test_an_upload_that_is_cut_off_leaves_nothing(tmp_path: Path) -> None:
    """The client promised more bytes than it sent."""
    with serve(tmp_path) as origin:
        host, port = origin.removeprefix("http://").split(":")
        head = (
            f"POST /api/v1/files HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {KEY}\r\nContent-Length: 1000\r\n"
            'Content-Type: multipart/form-data; boundary=b\r\n\r\n--b\r\nContent-Disposition: form-data; name="files"; '
        )
        with socket.create_connection((host, int(port))) as connection:
            connection.sendall(head.encode() + b'filename="a"\r\n\r\nhalf')
        assert httpx.get(f"{origin}/api/v1/files", headers=AUTH).json()["data"]["total"] == 0
    assert list((tmp_path / "uploads").iterdir()) == []


@pytest.mark.parametrize(
    "raw",
    [
        b"\0" * 1000,
        b"GET\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",  # a client that speaks TLS
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET /api/v1/files HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n",
        b"GET /api/v1/files HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999999999999999\r\n\r\n",
        b"POST /api/v1/fine-tunes HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"GET /" + b"x" * 200_000 + b" HTTP/1.1\r\n\r\n",
        b"GET /api/v1/files?page_no=%ff%00 HTTP/1.1\r\nHost: \xff\r\nAuthorization: Bearer \xff\xfe\r\n\r\n",
        b"GET /_emulator/info HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
    ],
    ids=range(10),
)
def test_what_is_no_request_does_not_stop_it(tmp_path: Path, raw: bytes) -> None:
    with serve(tmp_path) as origin:
        with socket.create_connection(("127.0.0.1", int(origin.rpartition(":")[2])), timeout=60) as connection:
            connection.sendall(raw)
            with contextlib.suppress(OSError):  # it may have hung up already
                connection.shutdown(socket.SHUT_WR)
                while connection.recv(65_536):
                    pass
        assert httpx.get(f"{origin}/api/v1/files", headers=AUTH).status_code == 200


@pytest.mark.parametrize("number", ["SIGINT", "SIGTERM"])
def test_in_the_foreground_a_signal_ends_it_well(tmp_path: Path, number: str) -> None:
    import signal

    command = [sys.executable, "-c", FOREGROUND, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        origin = process.stdout.readline().strip()
        assert httpx.get(f"{origin}/api/v1/files", headers=AUTH).status_code == 200
        process.send_signal(getattr(signal, number))
        out, err = process.communicate(timeout=60)
    assert (process.returncode, out, err) == (0, "stopped\n", "")


def test_a_killed_server_loses_nothing_it_answered(tmp_path: Path) -> None:
    command = [sys.executable, "-c", FOREGROUND, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        origin = process.stdout.readline().strip()
        with httpx.Client(base_url=origin, headers=AUTH) as client:
            file_id = upload(client, b"kept")
            before = client.get("/_emulator/info").json()["now"]
        process.kill()
    with serve(tmp_path, speed=0) as origin, httpx.Client(base_url=origin, headers=AUTH) as client:
        assert client.get(f"/api/v1/files/{file_id}").json()["data"]["size"] == 4
        assert client.get("/_emulator/info").json()["now"] == before


def test_importing_the_package_loads_no_server() -> None:
    """The command line imports it for its options; only starting one may cost."""
    code = (
        "import sys, reconciler.emulator, reconciler.emulator.server;"
        "print([name for name in ('starlette', 'uvicorn', 'httpx', 'anyio') if name in sys.modules])"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout == "[]\n"
