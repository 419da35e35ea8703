"""Starting and stopping the emulator: on a loopback port in a thread, or in the foreground until a signal.

There is no way to make it listen anywhere else. Importing this loads no server; starting one does.
"""

from __future__ import annotations

import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from types import MappingProxyType

from reconciler.emulator.backend import TOKEN_FILE, Backend
from reconciler.emulator.traffic import Traffic

HOST = "127.0.0.1"
STARTED_POLL_DELAY_S = 0.005
KEEP_ALIVE_S = 75
NO_SWITCHES: Mapping[str, object] = MappingProxyType({})


@contextmanager
def serve(
    data: Path,
    *,
    profile: str = "2026",
    speed: float = 600.0,
    port: int = 0,
    api_key: str | None = None,
    seed: int = 0,
    switches: Mapping[str, object] = NO_SWITCHES,
    scenario: Path | None = None,
    rate_per_s: float | None = None,
    burst: int | None = None,
    latency_ms: float | None = None,
    monotonic: Callable[[], float] = time.monotonic,
) -> Iterator[str]:
    """Serves the data folder while the block runs and yields the origin, `http://127.0.0.1:PORT`.

    `speed` is emulated seconds per real second, 0 for a clock that only moves when told to; while another server of
    the same folder lives, its speed holds. What comes faster than `rate_per_s`, `burst` (1) at once, is refused; no
    answer leaves before `latency_ms`. The rules of a `scenario` replace those of the folder, its switches give way to
    `switches`. All servers of a folder read the same `monotonic`. Raises ValueError for an unknown switch, a rate or a
    latency that nobody could keep and a mistake in the scenario, OSError for a port that is taken.
    """
    import uvicorn

    from reconciler.emulator.app import OPERATIONS, make_app
    from reconciler.emulator.delivery import Protocol, Server
    from reconciler.emulator.firing import install
    from reconciler.emulator.scenario import Scenario, read

    traffic = Traffic(rate_per_s, burst, latency_ms)
    script = read(scenario, OPERATIONS) if scenario else Scenario()
    turned = {**script.switches, **switches}
    with _listening(port) as listener:
        backend = Backend(
            data,
            profile=profile,
            speed=speed,
            seed=seed,
            switches=turned,
            wall_s=time.time(),
            traffic=traffic,
            monotonic=monotonic,
        )
        with closing(backend):
            if scenario:
                with backend.transaction() as tx:
                    install(tx, script.rules)
            app = make_app(backend, api_key=api_key, control_token=control_token(data))
            config = uvicorn.Config(
                app,
                loop="asyncio",
                http=Protocol,
                ws="none",
                lifespan="off",
                log_config=None,
                access_log=False,
                date_header=False,
                server_header=False,
                timeout_keep_alive=KEEP_ALIVE_S,
            )
            server = Server(config)
            thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, name="emulator", daemon=True)
            thread.start()
            while not server.started and thread.is_alive():
                time.sleep(STARTED_POLL_DELAY_S)
            try:
                yield f"http://{HOST}:{listener.getsockname()[1]}"
            finally:
                backend.closing.set()
                if thread.is_alive():
                    server.stop()
                thread.join()


def run(
    data: Path,
    *,
    announce: Callable[[str], object],
    profile: str = "2026",
    speed: float = 600.0,
    port: int = 0,
    api_key: str | None = None,
    seed: int = 0,
    switches: Mapping[str, object] = NO_SWITCHES,
    scenario: Path | None = None,
    rate_per_s: float | None = None,
    burst: int | None = None,
    latency_ms: float | None = None,
) -> None:
    """Serves until SIGINT or SIGTERM, in the main thread. `announce` is called once with the origin."""
    stop = threading.Event()
    before = {number: signal.signal(number, lambda *_: stop.set()) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        with serve(
            data,
            profile=profile,
            speed=speed,
            port=port,
            api_key=api_key,
            seed=seed,
            switches=switches,
            scenario=scenario,
            rate_per_s=rate_per_s,
            burst=burst,
            latency_ms=latency_ms,
        ) as origin:
            announce(origin)
            stop.wait()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def control_token(data: Path) -> str:
    """The token that `X-Emulator-Control` must carry, once a server has run on this folder."""
    return (data / TOKEN_FILE).read_text()


@contextmanager
def _listening(port: int) -> Iterator[socket.socket]:
    """A bound socket. IPPROTO_TCP matters: without it the server sets no TCP_NODELAY and each request waits 40 ms."""
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    with listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((HOST, port))
        yield listener
