"""Sending: a whole answer in two ASGI messages."""

from typing import TypeAlias

from starlette.types import Send

Headers: TypeAlias = list[tuple[bytes, bytes]]


async def send_answer(send: Send, status: int, headers: Headers, body: bytes) -> None:
    """Send a whole answer with its length."""
    start = [*headers, (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": status, "headers": start})
    await send({"type": "http.response.body", "body": body})
