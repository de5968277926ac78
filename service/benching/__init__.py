"""``hourglass bench``: one model as it is served, beside ONNX Runtime called directly."""
