"""The same answer by Flask."""

import os

from flask import Flask, Response, jsonify, request

from benchmarks.search.bare import Peer

app = Flask(__name__)
peer = Peer(os.environ)


@app.get("/v1/items/<item>/similar")
def similar(item: str) -> Response:
    """Answer a query."""
    return jsonify(peer.similar(item, int(request.args["k"])))
