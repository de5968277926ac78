"""From ONNX files that somebody else made to a model package; what ``hourglass import`` does."""
