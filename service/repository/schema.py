"""The JSON Schema of ``model.json``, for editors and for those who write one without Python.

``python -m service.repository.schema > docs/model.schema.json`` writes the copy in the documents.
"""

import json
import sys
from typing import Any

from service.repository.manifest import Manifest


def manifest_schema() -> dict[str, Any]:
    """Give the schema that every ``model.json`` satisfies."""
    schema = Manifest.model_json_schema()
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}


def manifest_schema_text() -> str:
    """Write it as the documents have it."""
    return json.dumps(manifest_schema(), indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    sys.stdout.write(manifest_schema_text())
