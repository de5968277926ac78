"""From rows to rows: graphs, sessions, batches. The only package that knows ONNX Runtime."""

import os

# The released wheels send usage data to their maker unless told otherwise before the first
# import, and a service has no right to agree to that for those who run it.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
