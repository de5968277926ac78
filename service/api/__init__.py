"""The HTTP edge: with ``service.app`` and ``service.server`` all that knows FastAPI."""
