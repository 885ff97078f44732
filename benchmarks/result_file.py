"""How a benchmark hands out its result: on the screen, and in a file where one is named."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def print_result(result: dict[str, Any], path: Path | None) -> None:
    """Print a result as JSON; path: of a file that holds the same, None = none."""
    text = json.dumps(result, indent=1)
    if path:
        path.write_text(text + "\n", encoding="utf-8")
    print(text)
