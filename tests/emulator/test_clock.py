"""Emulated time as arithmetic: the wall clock of these tests is a number."""

from __future__ import annotations

from reconciler.emulator.clock import END_S, SPEED_MAX, Clock, http_date, iso, iso_with_fraction, spaced, stamp

MIDNIGHT_UTC_S = 1_767_225_600.0  # 2026-01-01T00:00:00Z


def test_runs_at_its_speed() -> None:
    clock = Clock(emulated_s=1000, monotonic_s=50, speed=600, seen_s=1000)
    assert clock.now_s(52) == 1000 + 2 * 600


def test_never_goes_back_behind_what_was_seen() -> None:
    """A reader that was shown a moment must not be shown an earlier one, whatever the machine's clock says."""
    clock = Clock(1000, 50, 600, 1000).seen(2200)
    assert clock.now_s(51) == 2200


def test_pauses_while_no_server_runs() -> None:
    """A week on the shelf is no emulated time: deployments would have expired, jobs finished unseen."""
    stopped = Clock(1000, 50, 600, 1000).seen(2200)
    resumed = stopped.resumed(50 + 7 * 24 * 3600, speed=60)
    assert resumed.now_s(50 + 7 * 24 * 3600) == 2200
    assert resumed.now_s(51 + 7 * 24 * 3600) == 2260


def test_a_jump_is_kept_by_readers_at_any_speed() -> None:
    assert Clock(1000, 50, 0, 1000).advanced(3600).now_s(99) == 4600


def test_stops_before_the_calendar_does() -> None:
    """At the highest speed it is there within days."""
    clock = Clock(1000, 50, SPEED_MAX, 1000)
    assert clock.now_s(50 + 7 * 24 * 3600) == clock.now_s(1e300) == END_S
    assert spaced(END_S) == "9000-01-01 08:00:00"


def test_a_date_header_stays_in_the_calendar() -> None:
    """Rules that put the header wrong add up."""
    assert http_date(-1e12) == "Thu, 01 Jan 1970 00:00:00 GMT"
    assert http_date(1e15) == "Wed, 01 Jan 9000 00:00:00 GMT"


def test_writes_beijing_time_as_each_part_of_the_api_does() -> None:
    """Four forms in one API, none with a zone; only the HTTP header is in UTC."""
    at_s = MIDNIGHT_UTC_S + 0.25
    assert spaced(at_s) == "2026-01-01 08:00:00"
    assert iso(at_s) == "2026-01-01T08:00:00"
    assert iso_with_fraction(at_s) == "2026-01-01T08:00:00.25"
    assert iso_with_fraction(MIDNIGHT_UTC_S) == "2026-01-01T08:00:00"
    assert stamp(at_s) == "202601010800"
    assert http_date(at_s) == "Thu, 01 Jan 2026 00:00:00 GMT"
