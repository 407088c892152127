import socket

import pytest

from arcadapt.errors import StackError
from arcadapt.stack.ports import bind, free_port, is_loopback
from arcadapt.stack.stack import StackOptions

pytestmark = pytest.mark.fast
HOST = "127.0.0.1"
EVERYWHERE = "0.0.0.0"  # noqa: S104


@pytest.mark.parametrize(
    ("host", "loopback"),
    [(HOST, True), ("localhost", True), ("127.9.9.9", True), ("::1", True), (EVERYWHERE, False), ("192.0.2.1", False)],
)
def test_which_addresses_are_this_machine_only(host: str, loopback: bool):
    assert is_loopback(host) is loopback


def test_a_host_that_does_not_exist():
    with pytest.raises(StackError, match="no such address"):
        is_loopback("no such host")


def test_the_preferred_port_is_taken_where_it_is_free():
    port = free_port()
    with bind(HOST, port=None, preferred=port) as listening:
        assert listening.getsockname() == (HOST, port)
        with bind(HOST, port=None, preferred=port) as other:
            assert other.getsockname()[1] not in {0, port}
        with pytest.raises(StackError, match="is taken"):
            bind(HOST, port=port, preferred=8000)


def test_nobody_else_can_take_the_port_before_the_server_serves():
    with bind(HOST, port=None, preferred=0) as listening, socket.socket() as thief:
        thief.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        with pytest.raises(OSError, match="in use"):
            thief.bind(listening.getsockname())


def test_other_machines_need_keys(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("ARCADAPT_API_KEYS", raising=False)
    StackOptions().check()
    with pytest.raises(StackError, match="ARCADAPT_API_KEYS"):
        StackOptions(host=EVERYWHERE).check()
    monkeypatch.setenv("ARCADAPT_API_KEYS", " ")
    with pytest.raises(StackError, match="ARCADAPT_API_KEYS"):
        StackOptions(host=EVERYWHERE).check()
    monkeypatch.setenv("ARCADAPT_API_KEYS", "secret")
    StackOptions(host=EVERYWHERE).check()


@pytest.mark.parametrize("host", ["127.0.0.1", EVERYWHERE])
def test_keys_without_a_key_are_no_keys(monkeypatch: pytest.MonkeyPatch, host: str):
    monkeypatch.setenv("ARCADAPT_API_KEYS", " , ")
    with pytest.raises(StackError, match="no key in it"):
        StackOptions(host=host).check()
