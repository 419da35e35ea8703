"""The project itself: which service, which generation of it, whose workspace, and where the state lives."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from reconciler.resource import Budget, Spec


class StateLocation(Spec):
    """Where the record of what we own is kept: in a file below the project root, or in PostgreSQL.

    A manifest never says which database: that, with its password, is in the environment (docs/state.md).
    """

    backend: Annotated[
        Literal["sqlite", "postgres"],
        Field(description="What keeps the record: a file, or the PostgreSQL database that the environment names."),
    ] = "sqlite"
    path: Annotated[
        str, Field(min_length=1, max_length=200, description="The file of the sqlite backend, below the project root.")
    ] = ".reconciler/state.db"

    @field_validator("path")
    @classmethod
    def _stays_below(cls, value: str) -> str:
        parts = value.split("/")
        if value.startswith("~") or "\\" in value or not value.isprintable() or {"", ".", ".."} & set(parts):
            raise ValueError("a path must be relative to the project root and stay below it")
        return value

    @model_validator(mode="after")
    def _one(self) -> StateLocation:
        if self.backend == "postgres" and "path" in self.model_fields_set:
            raise ValueError("path is a file of the sqlite backend: write one of the two")
        return self


class Loop(Spec):
    """What `controller run --mode apply` may do in this stack by itself."""

    paid: Annotated[
        Literal["Ask", "Auto"],
        Field(
            description="Whether what costs money waits for approval; what takes the place of something that the"
            " platform took away, and a run under retrain: Manual, always does."
        ),
    ] = "Ask"


class Stack(Spec):
    """Exactly one per invocation; the folder that holds it is the project root.

    `endpoint` may name only the embedded emulator or an official region: any other host must come from the operator.
    `profile` selects the catalogue and the generation of the API (contract §10).
    """

    endpoint: Annotated[
        Literal["emulator", "beijing", "singapore"],
        Field(
            description="The service: the embedded emulator, where nothing is bought, or a region, where all is real."
        ),
    ] = "emulator"
    profile: Annotated[
        Literal["2026", "dec-2024"],
        Field(description="The generation of the API and its catalogue of models and prices; 2026 in quotes."),
    ] = "2026"
    workspace: Annotated[
        str | None,
        Field(
            pattern=r"^llm-[a-z0-9]{1,40}$", description="The workspace that objects are made in; unset: the key's own."
        ),
    ] = None
    state: Annotated[StateLocation, Field(description="Where the record of what is owned is kept.")] = StateLocation()
    budget: Annotated[Budget | None, Field(description="Limits of an apply; the operator's own hold beside them.")] = (
        None
    )
    on_unknown: Annotated[
        Literal["Recreate", "Ask"],
        Field(
            description="When a creation left neither answer nor trace: create again, once and only where absence is"
            " certain, or leave even that to a person."
        ),
    ] = "Recreate"
    controller: Loop = Loop()
    catalogue: Annotated[
        str | None,
        Field(
            min_length=1,
            max_length=400,
            description="A yaml file of models and prices in CNY, laid over the built-in catalogue.",
        ),
    ] = None
