"""Files that are there whole or not at all."""

import json
from pathlib import Path
from typing import Any

__all__ = ["write_json", "write_text"]


def write_text(file: Path, text: str) -> None:
    """Write UTF-8 text."""
    file.parent.mkdir(parents=True, exist_ok=True)
    part = file.with_name(file.name + ".part")
    part.write_text(text, "utf-8")
    part.replace(file)


def write_json(file: Path, content: Any) -> None:
    """Write ``content`` so that versions of it can be compared by line."""
    write_text(file, json.dumps(content, indent=1, ensure_ascii=False) + "\n")
