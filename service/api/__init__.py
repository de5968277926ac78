"""The HTTP edge: the only package, with ``service.app`` and ``service.cli``, that knows FastAPI."""
