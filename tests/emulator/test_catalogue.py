"""The emulator's own reading of the packaged data."""

from __future__ import annotations

from decimal import Decimal

from reconciler.emulator.catalogue import read
from reconciler.emulator.switches import NEW, OLD


def test_each_profile_sees_its_own_models() -> None:
    assert "qwen3.5-9b" in read(NEW).models
    assert "qwen3.5-9b" not in read(OLD).models
    assert "qwen-turbo" in read(OLD).models
    assert "qwen-turbo" not in read(NEW).models


def test_money_is_decimal_and_unknown_stays_unknown() -> None:
    """A float price, or a zero for an unknown one, would be a wrong bill in every ledger."""
    assert read(NEW).models["qwen3.5-9b"].training_price == Decimal("0.02")
    assert read(NEW).models["qwen3.5-flash-2026-02-23"].training_price is None
    assert read(NEW).units["MU1"].hour == Decimal(54)
    assert read(OLD).models["qwen2-7b-instruct"].instance_hour == Decimal(40)
    assert read(OLD).models["qwen-turbo"].instance_hour is None


def test_continued_pre_training_came_later() -> None:
    assert read(NEW).training_types - read(OLD).training_types == {"cpt"}
