"""What a test asks the emulator beside the API: who it is, what was bought, stop writes, move time, play faults.

Reading needs no key but a loopback `Host`, so that no web page can read it by a name it controls; what changes the
world needs the token that lies in the data folder.
"""

from __future__ import annotations

from collections.abc import Iterable

from reconciler.emulator import clock, faults, files, firing, openapi, schemas
from reconciler.emulator.backend import Transaction
from reconciler.emulator.fields import Json, optional_flag, optional_number
from reconciler.emulator.refusal import bad_parameter, invalid
from reconciler.emulator.schemas import FLAG, NUMBER, OBJECT, TEXT, WHOLE, answer, nullable, several, shape
from reconciler.emulator.wire import Bare, Call, Reply, Route

ADVANCE_S_MAX = 10 * 366 * 24 * 3600


def routes(api: Iterable[Route]) -> tuple[Route, ...]:
    """The emulator's own routes; two of them speak of those of the API."""
    api = tuple(api)
    operations = {operation for route in api for operation in route.operations}

    def change_faults(tx: Transaction, call: Call) -> Reply:
        try:
            rules = faults.parse(call.body.get("faults"), operations)
            firing.install(tx, rules, append=optional_flag(call.body, "append") is True)
        except ValueError as error:
            raise invalid(str(error)) from error
        return show_faults(tx, call)

    def description(tx: Transaction, call: Call) -> Reply:
        return Bare(openapi.describe((*api, *own), tx.profile))

    own = (
        *ROUTES,
        files.CONTENT,
        Route(
            "POST",
            "/_emulator/faults",
            "emulator.change_faults",
            change_faults,
            body={"faults": several(OBJECT), "append": FLAG},
            required=("faults",),
            answer=COUNTED,
            access="control",
        ),
        Route(
            "GET", "/_emulator/openapi.json", "emulator.openapi", description, answer=schemas.OBJECT, access="loopback"
        ),
    )
    return own


def info(tx: Transaction, call: Call) -> Reply:
    return {
        "install_id": tx.backend.install_id,
        "profile": tx.profile,
        **_time(tx),
        "read_only": tx.read_only,
        **_traffic(tx),
        "switches": tx.switches.as_json(),
    }


def ledger(tx: Transaction, call: Call) -> Reply:
    return {"entries": tx.ledger()}


def read_only(tx: Transaction, call: Call) -> Reply:
    on = optional_flag(call.body, "on")
    if on is None:
        raise bad_parameter("on")
    tx.set_read_only(on)
    return {"read_only": on}


def move_clock(tx: Transaction, call: Call) -> Reply:
    """Jumps, freezes or thaws, changes the speed: in this order, and at least one of them."""
    by_s = optional_number(call.body, "advance_s", least=0, most=min(ADVANCE_S_MAX, clock.END_S - tx.now_s))
    freeze = optional_flag(call.body, "freeze")
    speed = optional_number(call.body, "speed", least=0, most=clock.SPEED_MAX)
    if by_s is None and freeze is None and speed is None:
        raise bad_parameter("advance_s")
    if by_s is not None:
        if tx.now_s + by_s > clock.END_S:
            raise invalid("Emulated time ends with the year 8999.")
        tx.advance(by_s)
    if freeze is not None:
        (tx.freeze if freeze else tx.thaw)()
    if speed is not None:
        tx.set_speed(speed)
    return {**_time(tx), "now": clock.spaced(tx.now_s + (by_s or 0))}


def show_faults(tx: Transaction, call: Call) -> Reply:
    return {"faults": firing.counted(tx)}


def _time(tx: Transaction) -> Json:
    return {"speed": tx.speed, "frozen": tx.frozen, "now": clock.spaced(tx.now_s)}


def _traffic(tx: Transaction) -> Json:
    """Null is not enforced. `throttled`: how many requests this server has refused for its rate."""
    traffic = tx.backend.traffic
    enforced = {"rate_per_s": traffic.rate_per_s, "burst": traffic.burst, "latency_ms": traffic.latency_ms}
    return {**enforced, "throttled": traffic.refused}


TRAFFIC = {
    **dict.fromkeys(("rate_per_s", "latency_ms"), nullable(NUMBER)),
    "burst": nullable(WHOLE),
    "throttled": WHOLE,
}
TIME = {"now": TEXT, "speed": NUMBER, "frozen": FLAG}
COUNTED = answer(faults=several(shape({"name": TEXT, "rule": OBJECT, "calls": NUMBER, "fired": NUMBER})))
ROUTES = (
    Route(
        "GET",
        "/_emulator/info",
        "emulator.info",
        info,
        answer=answer(install_id=TEXT, profile=TEXT, read_only=FLAG, switches=OBJECT, **TIME, **TRAFFIC),
        access="loopback",
    ),
    Route(
        "GET",
        "/_emulator/ledger",
        "emulator.ledger",
        ledger,
        answer=answer(entries=several(OBJECT)),
        access="loopback",
    ),
    Route("GET", "/_emulator/faults", "emulator.faults", show_faults, answer=COUNTED, access="loopback"),
    Route(
        "POST",
        "/_emulator/read-only",
        "emulator.read_only",
        read_only,
        body={"on": FLAG},
        required=("on",),
        answer=answer(read_only=FLAG),
        access="control",
    ),
    Route(
        "POST",
        "/_emulator/clock",
        "emulator.clock",
        move_clock,
        body={"advance_s": NUMBER, "freeze": FLAG, "speed": NUMBER},
        answer=answer(**TIME),
        access="control",
    ),
)
