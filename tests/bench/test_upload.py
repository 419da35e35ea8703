"""What is sent to the far end of a benchmark arrives, or the figure is that of a refusal."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path

import pytest

from reconciler.errors import ReconcilerError
from tests.bench.upload import SENDFILE, send, sink


def test_the_far_end_takes_a_file_from_us_and_from_the_rival_that_is_made_by_hand(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b"x" * 3_000_000)
    with sink() as port:
        send(path, port, hashlib.md5(path.read_bytes()).hexdigest())
        subprocess.run([sys.executable, "-c", SENDFILE, path, f"{port}"], check=True)
        with pytest.raises((ReconcilerError, OSError)):
            send(path, port, "0" * 32)
