"""From rows to rows: graphs, sessions, batches. The only package that knows ONNX Runtime."""
