"""What there is to train on and to ask for, in each of the two times the emulator can be of."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from tests.emulator.stand import CORE, archive, chat_rows, dpo_rows, image_rows, lines

OLD, NEW = "dec-2024", "2026"
PROFILES = (OLD, NEW)
FAST = 3000.0
"""Emulated seconds per second where a stream has to come to its end by itself: a training takes half a second."""

MODELS: Mapping[str, Mapping[str, tuple[str, str]]] = MappingProxyType(
    {
        OLD: {
            "sft": ("qwen-turbo", "sft"),
            "dpo": ("qwen2-7b-instruct", "dpo_full"),
            "zip": ("qwen-vl-plus", "efficient_sft"),
        },
        NEW: {
            "sft": ("qwen3.5-9b", "efficient_sft"),
            "dpo": ("qwen3-8b", "dpo_lora"),
            "zip": ("qwen3-vl-8b-instruct", "sft"),
            "cpt": ("qwen3-0.6b", "cpt"),
        },
    }
)
"""Model and training type for each kind of data."""

DEPLOYMENT: Mapping[str, Mapping[str, Mapping[str, Any]]] = MappingProxyType(
    {
        OLD: {"module_api": {"capacity": 2}, "client_api": {"capacity": 2}},
        NEW: {
            "module_api": {"capacity": 4, "plan": "mu", "template_id": "MU1"},
            "client_api": {"capacity": 4, "plan": "mu", "deploy_spec": "MU1", "billing_method": "POST_PAY"},
        },
    }
)
"""What a create says beside the model: each surface has its own word for the unit (contract §3.1)."""

SCALED = MappingProxyType({OLD: 3, NEW: 8})


def facts(profile: str, folder: Path) -> dict[str, Any]:
    """Everything a scene is told, with the paths of files made in `folder`."""
    models = MODELS[profile]
    files = write_files(folder)
    return {
        "profile": profile,
        "model": {kind: model for kind, (model, _) in models.items()},
        "mode": {kind: mode for kind, (_, mode) in models.items()},
        "hyper_parameters": CORE if profile == NEW else {},
        "deployment": DEPLOYMENT[profile],
        "scaled": SCALED[profile],
        "md5": hashlib.md5(files["sft"].read_bytes(), usedforsecurity=False).hexdigest(),
        "size": files["sft"].stat().st_size,
        **{kind: str(path) for kind, path in files.items()},
    }


def write_files(folder: Path) -> dict[str, Path]:
    """One file of each kind of data; the archive is as 2026 and December 2024 both take it."""
    contents = {
        "sft.jsonl": chat_rows(40),
        "dpo.jsonl": dpo_rows(40),
        "cpt.jsonl": lines({"text": f"Paragraph {number}."} for number in range(40)),
        "zip.zip": archive({"data.jsonl": image_rows(40), "a.png": b"no picture, and nobody looks"}),
    }
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    return {name.partition(".")[0]: folder / name for name in contents}
