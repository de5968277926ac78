"""How fast the service is, beside ONNX Runtime alone, an empty server and the usual service."""
