"""stub"""
from typing import Any
PATCHES: dict[str, Any] = {}
