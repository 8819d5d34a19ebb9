"""Runs the board's server until it is interrupted."""

from __future__ import annotations

import argparse
import socket
from contextlib import suppress
from datetime import timedelta

import uvicorn

from model_repository.bucket.store import Store
from operator_cli.board.app import Board, application
from operator_cli.board.identity import Iap, OwnMachine, ReadOnly, SignIn
from operator_cli.board.overview import Overview
from operator_cli.board.rollouts import Rollouts
from operator_cli.context import Context
from operator_cli.errors import UsageRefused
from operator_cli.signature import default_signature
from operator_cli.webhook import Webhook

_OWN = "127.0.0.1"


def board(arguments: argparse.Namespace, store: Store, context: Context) -> None:
    """Serve until interrupted. Raises `UsageRefused` for options that don't fit, or a port that is taken."""
    sign_in = _sign_in(arguments, context)
    own = isinstance(sign_in, OwnMachine)
    host = _OWN if own else arguments.host
    listener = listen(host, arguments.port)  # before the bucket, which may take long to say nothing
    overview = Overview(store, context.clock, timedelta(hours=arguments.freshness))
    overview.look()  # whoever opens the page sees something at once; what is wrong with the bucket stands there
    served = Board(
        store=store,
        overview=overview,
        rollouts=Rollouts([Webhook.named(url, context.environ) for url in arguments.webhook], context.clock),
        clock=context.clock,
        sign_in=sign_in,
        hosts=(_OWN, "localhost") if own else (),
    )
    key = f"/?key={sign_in.secret}" if isinstance(sign_in, OwnMachine) else "/"
    context.say(f"http://{host}:{listener.getsockname()[1]}{key}")
    config = uvicorn.Config(
        application(served), log_level="warning", access_log=False, server_header=False, timeout_graceful_shutdown=1
    )
    with suppress(KeyboardInterrupt):  # that is how it ends
        uvicorn.Server(config).run([listener])


def _sign_in(arguments: argparse.Namespace, context: Context) -> SignIn:
    if arguments.sign_in == "iap":
        if not arguments.audience:
            raise UsageRefused("--sign-in iap: say --audience, as IAP shows it: /projects/<number>/...")
        return Iap(arguments.audience)
    if arguments.audience:
        raise UsageRefused("--audience is for --sign-in iap")
    if arguments.sign_in == "none":
        return ReadOnly()
    if arguments.host != _OWN:
        raise UsageRefused(
            f"--host {arguments.host}: other machines need a sign-in: say --sign-in iap, or none for looking only"
        )
    return OwnMachine(default_signature(context.environ) if arguments.by is None else arguments.by)


def listen(host: str, port: int) -> socket.socket:
    """Take a port, 0 for any that is free. Raises `UsageRefused` if it is taken."""
    try:
        return socket.create_server((host, port))
    except OSError as error:
        raise UsageRefused(f"--host {host} --port {port}: {error.strerror or error}; name another") from None
