"""The same answer by FastAPI, as in its tutorial."""

import os

from fastapi import FastAPI
from pydantic import BaseModel

from benchmarks.search.bare import Peer


class Neighbor(BaseModel):
    """One of the answer."""

    id: str
    category: str
    score: float
    distance: float


class Answer(BaseModel):
    """The search server's, field by field."""

    item: str
    category: str
    generation: int
    neighbors: list[Neighbor]


app = FastAPI()
peer = Peer(os.environ)


@app.get("/v1/items/{item}/similar")
async def similar(item: str, k: int = 10) -> Answer:
    """Answer a query; searching in the event loop is the fastest that FastAPI has."""
    return Answer.model_validate(peer.similar(item, k))
