"""Ports of programs that are yet to start."""

from __future__ import annotations

import socket

import pytest

from local_stack.processes import free_port


def test_a_port_is_kept_for_a_server_and_from_all_others() -> None:
    port = free_port()
    with socket.socket() as other, pytest.raises(OSError, match="in use"):
        other.bind(("127.0.0.1", port))
    with socket.create_server(("127.0.0.1", port)):  # with SO_REUSEADDR, as every server has it
        pass


def test_a_port_that_no_server_has_taken_refuses_connections() -> None:
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", free_port()))
