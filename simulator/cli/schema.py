"""Format of experiment files: `schema`."""

import json
import sys
from pathlib import Path

from simulator.experiment.schema.json_schema import file_schema
from simulator.host.files import atomic_path


def schema(out: Path | None) -> None:
    """Prints the JSON Schema of experiment files, or writes it to a file."""
    unicode = out is not None or sys.stdout.encoding.lower().startswith("utf")
    text = json.dumps(file_schema(), indent=2, ensure_ascii=not unicode) + "\n"
    if out is None:
        sys.stdout.write(text)
    else:
        with atomic_path(out) as temporary:
            temporary.write_text(text, encoding="utf-8")
