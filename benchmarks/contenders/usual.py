"""The service that most people would write: FastAPI, pydantic, one session with its defaults.

It has no limits, deadlines, metrics or verdicts, so everything it does is the work itself.
"""

import asyncio
import sys
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnxruntime as ort
import uvicorn
from fastapi import FastAPI, Request, Response
from pydantic import BaseModel


class Body(BaseModel):
    """Rows as the client's JSON has them."""

    inputs: list[list[float]]


class Answer(BaseModel):
    """One score a row."""

    scores: list[float]


def make_app(graph: Path) -> FastAPI:
    """Build the service around the autoencoder in the file *graph*."""
    session = ort.InferenceSession(graph, providers=["CPUExecutionProvider"])
    given = session.get_inputs()[0]
    app = FastAPI()

    def run(rows: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        rows = rows.reshape(-1, *given.shape[1:])
        (reconstruction,) = session.run(None, {given.name: rows})
        squares = ((rows - reconstruction) ** 2).reshape(len(rows), -1)
        scores: npt.NDArray[np.float32] = squares.mean(axis=1)
        return scores

    @app.post("/score")
    def score(body: Body) -> Answer:
        return Answer(scores=run(np.array(body.inputs, dtype=np.float32)).tolist())

    @app.post("/score/raw")
    async def score_raw(request: Request) -> Response:
        rows = np.frombuffer(await request.body(), dtype=np.float32)
        scores = await asyncio.to_thread(run, rows)
        return Response(scores.tobytes(), media_type="application/octet-stream")

    return app


if __name__ == "__main__":
    made = make_app(Path(sys.argv[1]))
    # uvicorn would write a line for every request: the usual service is spared that
    uvicorn.run(made, port=int(sys.argv[2]), access_log=False, log_level="warning")
