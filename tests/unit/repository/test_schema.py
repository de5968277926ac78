"""The JSON Schema of the manifest: current, and true of what is there."""

import json
from pathlib import Path

import jsonschema
import pytest

from service.repository.schema import manifest_schema, manifest_schema_text

ROOT = Path(__file__).parents[3]
BUNDLED = sorted((ROOT / "models").glob("*/*/model.json"))


def test_the_copy_in_the_documents_is_current():
    """``make schema`` writes it anew."""
    assert (ROOT / "docs" / "model.schema.json").read_text("utf-8") == manifest_schema_text()


def test_it_is_a_valid_schema():
    jsonschema.Draft202012Validator.check_schema(manifest_schema())


@pytest.mark.parametrize("path", BUNDLED, ids=lambda path: "/".join(path.parts[-3:-1]))
def test_a_bundled_manifest_satisfies_it(path):
    jsonschema.validate(json.loads(path.read_text("utf-8")), manifest_schema())


def test_there_are_bundled_manifests():
    assert BUNDLED


@pytest.mark.parametrize(
    "change", [{"version": 0}, {"name": "No Name"}, {"colour": "red"}, {"files": None}]
)
def test_a_manifest_that_is_wrong_does_not(change):
    content = json.loads(BUNDLED[0].read_text("utf-8"))

    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(content | change, manifest_schema())
