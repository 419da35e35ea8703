"""What a test asks the emulator beside the API: who it is, what was bought, stop writes, let time pass.

Reading needs no key but a loopback `Host`, so that no web page can read it by a name it controls; the two controls need
the token that lies in the data folder.
"""

from __future__ import annotations

from reconciler.emulator import clock
from reconciler.emulator.backend import Transaction
from reconciler.emulator.fields import optional_flag
from reconciler.emulator.refusal import bad_parameter
from reconciler.emulator.wire import Call, Reply, Route

ADVANCE_S_MAX = 10 * 366 * 24 * 3600


def info(tx: Transaction, call: Call) -> Reply:
    return {
        "install_id": tx.backend.install_id,
        "profile": tx.profile,
        "speed": tx.speed,
        "now": clock.spaced(tx.now_s),
        "read_only": tx.read_only,
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


def advance(tx: Transaction, call: Call) -> Reply:
    by_s = call.body.get("advance_s")
    if not isinstance(by_s, int | float) or isinstance(by_s, bool) or not 0 <= by_s <= ADVANCE_S_MAX:
        raise bad_parameter("advance_s")
    tx.advance(by_s)
    return {"now": clock.spaced(tx.now_s + by_s)}


ROUTES = (
    Route("GET", "/_emulator/info", "emulator.info", info, access="loopback"),
    Route("GET", "/_emulator/ledger", "emulator.ledger", ledger, access="loopback"),
    Route(
        "POST",
        "/_emulator/read-only",
        "emulator.read_only",
        read_only,
        members=frozenset({"on"}),
        access="control",
    ),
    Route("POST", "/_emulator/clock", "emulator.clock", advance, members=frozenset({"advance_s"}), access="control"),
)
