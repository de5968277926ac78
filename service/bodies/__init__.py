"""Bytes to rows and back: pure functions, one module a format. Knows tensor specs, not HTTP."""
