"""Ports: what is none is one line, what is taken is passed over."""

import socket

import pytest

from src.base import ports


@pytest.mark.parametrize("wanted", ["0", "65536", "99999", "-1", "http", "5000.0"])
def test_a_port_that_is_none_is_one_line(wanted: str) -> None:
    with pytest.raises(ValueError, match=rf"^PORT={wanted} in the environment: allowed: 1 to 65535, or unset$"):
        ports.free_port(wanted)


def test_a_port_that_is_taken_is_passed_over() -> None:
    with socket.socket() as taken:
        taken.bind((ports.HOST, 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert ports.free_port(str(port)) > port
