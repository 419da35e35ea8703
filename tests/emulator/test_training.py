"""A training as arithmetic: progress, loss and log lines of a job that is only a value."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from typing import Any

import pytest

from reconciler.emulator.training import Job, canceled, from_json, log, progress, uninterrupted

LINE = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d \[emulator\] (.*)")
JOB = Job(
    job_id="ft-202611021405-abcd",
    job_name="mark",
    model="qwen3.5-9b",
    base_model="qwen3.5-9b",
    training_type="efficient_sft",
    finetuned_output="qwen3.5-9b-ft-202611021405-abcd",
    suffix="",
    training=(),
    validation=(),
    hyper_parameters={},
    created_s=0,
    ready_s=60,
    training_s=1000,
    rows=1600,
    tokens=50_000,
    epochs=3,
    batch_size=16,
)
DONE = replace(JOB, schedule=uninterrupted(JOB, 60))


def measurements(job: Job, now_s: float = 1e9) -> list[dict[str, Any]]:
    texts = [match[1] for line in log(job, now_s) if (match := LINE.fullmatch(line))]
    return [json.loads(text) for text in texts if text.startswith("{")]


def test_the_loss_falls_and_the_learning_rate_decays() -> None:
    """What a chart of it should look like: noisy at the step, lower at the end."""
    steps = [entry for entry in measurements(DONE) if "loss" in entry]
    assert [entry["step"] for entry in steps] == list(range(5, 301, 5))
    assert steps[0]["loss"] > 2 > steps[-1]["loss"] > 0
    assert steps[0]["learning_rate"] > steps[-1]["learning_rate"] == 0
    assert steps[-1]["epoch"] == 3


def test_evaluations_come_between_at_their_own_pace() -> None:
    assert [entry["step"] for entry in measurements(DONE) if "eval_loss" in entry] == [50, 100, 150, 200, 250, 300]


def test_logging_steps_are_the_callers() -> None:
    paced = replace(DONE, hyper_parameters={"logging_steps": "60", "eval_steps": 1000})
    assert [entry["step"] for entry in measurements(paced)] == [60, 120, 180, 240, 300]


def test_a_long_training_is_logged_more_coarsely() -> None:
    """From 1,000 lines on the 1.20 command reads for ever."""
    long = replace(JOB, rows=1_000_000)
    assert len(log(replace(long, schedule=uninterrupted(long, 60)), 1e9)) < 1000


def test_every_reader_of_a_moment_sees_the_same_lines() -> None:
    assert log(DONE, 500) == log(DONE, 1e9)[: len(log(DONE, 500))]


def test_progress_goes_from_nothing_to_exactly_all() -> None:
    assert [progress(DONE, now_s) for now_s in (0, 60, 560, 1060, 1e9)] == [0, 0, 0.5, 1, 1]


def test_a_cancel_stops_the_lines_and_the_bill() -> None:
    stopped = replace(DONE, schedule=canceled(DONE, 500, takes_s=60))
    assert progress(stopped, 1e9) == pytest.approx(0.5)
    assert max(entry["step"] for entry in measurements(stopped)) == 150
    assert "canceled by the user" in log(stopped, 1e9)[-2]


def test_a_job_survives_being_written_down() -> None:
    assert from_json(json.loads(json.dumps(DONE.as_json()))) == DONE
