"""A count that is wrong would pass for one that is right."""

from __future__ import annotations

import httpx

from tests.bench.front import front
from tests.desk import KEY, Emulator


def test_requests_of_the_api_are_counted_and_reads_of_one_object_among_them(service: Emulator) -> None:
    """On kept and on fresh connections, and answers that refuse; what only the emulator has is not the API."""
    headers = {"Authorization": f"Bearer {KEY}"}
    with front(f"{service.origin}/api/v1") as counted:
        with httpx.Client(headers=headers, trust_env=False) as client:
            for path in ("files?page_no=1", "fine-tunes", "fine-tunes/ft-1", "fine-tunes/outputs", "files/f-1"):
                client.get(f"{counted.url}/{path}")
            client.get(counted.url.replace("/api/v1", "/_emulator/info")).raise_for_status()
        httpx.delete(f"{counted.url}/files/f-1", headers=headers, trust_env=False)
    assert len(counted.requests) == 6
    assert counted.requests[0] == "GET /api/v1/files?page_no=1"
    assert counted.singles() == 2
