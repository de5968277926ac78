"""The floor: uvicorn with an application that reads the body and answers a constant.

No service on this server can be faster; what it costs is HTTP alone.
"""

import sys
from typing import Final

import uvicorn
from starlette.types import Receive, Scope, Send

ANSWER: Final = b'{"scores":[0.5]}'
HEADERS: Final = [(b"content-type", b"application/json"), (b"content-length", b"16")]


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    """Read one request and answer it."""
    if scope["type"] != "http":
        return
    chunks = []
    is_more = True
    while is_more:
        message = await receive()
        chunks.append(message.get("body", b""))
        is_more = message.get("more_body", False)
    b"".join(chunks)
    await send({"type": "http.response.start", "status": 200, "headers": HEADERS})
    await send({"type": "http.response.body", "body": ANSWER})


def make_config(port: int) -> uvicorn.Config:
    """Serve it as uvicorn does by default, but for logs and lifespan."""
    return uvicorn.Config(app, port=port, log_config=None, access_log=False, lifespan="off")


if __name__ == "__main__":
    uvicorn.Server(make_config(int(sys.argv[1]))).run()
