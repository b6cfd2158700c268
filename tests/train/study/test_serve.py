"""The server as a program: clients that are slow, and what it prints."""

import json
import socket
from unittest import mock
from urllib.parse import urlsplit

import pytest

from tests.train.study.conftest import served
from tests.train.study.test_server import begin, client_of
from train.__main__ import main
from train.study.serve import PromptProtocol

REQUEST = b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n"
POST = (
    b"POST /begin HTTP/1.1\r\nHost: 127.0.0.1\r\nOrigin: http://127.0.0.1\r\n"
    b"Content-Type: application/json\r\nContent-Length: 1000\r\n\r\n{"
)


@pytest.mark.parametrize("said", [b"", b"GET", REQUEST, POST], ids=["none", "word", "head", "body"])
def test_clients_that_never_finish_a_request_are_cut_off(votes, said, monkeypatch):
    monkeypatch.setattr(PromptProtocol, "patience", 0.2)
    serving = served(votes)
    address = urlsplit(next(serving))
    with socket.create_connection((address.hostname, address.port), timeout=60) as client:
        client.sendall(said)
        try:
            assert client.recv(100) == b""  # The server has closed the connection.
        except ConnectionResetError:
            pass
    serving.close()


def test_clients_that_read_nothing_are_cut_off(votes, monkeypatch):
    monkeypatch.setattr(PromptProtocol, "patience", 0.2)
    serving = served(votes)
    address = urlsplit(next(serving))
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.settimeout(60)
        client.connect((address.hostname, address.port))
        with pytest.raises(OSError):
            for _ in range(10**7):  # Answers fill all buffers, and then requests do.
                client.sendall(REQUEST + b"\r\n")
    serving.close()


def test_slow_readers_are_not_cut_off():
    """Whole photographs take minutes through a slow tunnel."""
    transport, loop = mock.Mock(), mock.Mock()
    protocol = object.__new__(PromptProtocol)
    protocol.transport, protocol.loop = transport, loop
    protocol._answered, protocol._unread = True, 0
    for waiting in (60_000_000, 50_000_000, 49_000_000):  # bytes that were not read, each minute
        transport.get_write_buffer_size.return_value = waiting
        protocol._look()
        transport.abort.assert_not_called()
    transport.get_write_buffer_size.return_value = 48_900_000
    protocol._look()
    transport.abort.assert_called_once()
    assert loop.call_later.call_count == 3


def test_stopping_the_server_is_no_failure(study, monkeypatch, capsys):
    class Stopped:
        def run(self, sockets):
            sockets[0].close()
            raise KeyboardInterrupt

    monkeypatch.setattr("train.study.serve.make_server", lambda app: Stopped())
    assert main(["study", "serve", str(study), "--port", "0"]) == 0
    assert f"Next: python -m train study score {study}" in capsys.readouterr().out.replace("\n", "")


def test_one_connection_may_ask_for_long(votes, monkeypatch):
    monkeypatch.setattr(PromptProtocol, "patience", 0.5)
    serving = served(votes)
    address = urlsplit(next(serving))
    with socket.create_connection((address.hostname, address.port), timeout=60) as client:
        for _ in range(8):
            client.sendall(REQUEST + b"\r\n")
            answer = b""
            while b"</html>" not in answer:
                piece = client.recv(65_536)
                assert piece
                answer += piece
            with pytest.raises(TimeoutError):  # longer than patience for all requests together
                client.settimeout(0.15)
                client.recv(1)
            client.settimeout(60)
    serving.close()


def test_a_request_with_two_lengths_hides_no_second_one(votes):
    serving = served(votes)
    address = urlsplit(next(serving))
    with socket.create_connection((address.hostname, address.port), timeout=60) as client:
        client.sendall(
            REQUEST
            + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
            + REQUEST
            + b"\r\n"
        )
        answer = b""
        while piece := client.recv(65_536):
            answer += piece
    assert answer.startswith(b"HTTP/1.1 400") and answer.count(b"HTTP/1.1") == 1
    serving.close()


def test_garbled_requests_are_not_printed(votes, capfd):
    serving = served(votes)
    address = urlsplit(next(serving))
    for said in (b"\x16\x03\x01 TLS\r\n\r\n", b"GET / HTTP/1.1\r\nHost\x00: x\r\n\r\n"):
        with socket.create_connection((address.hostname, address.port), timeout=60) as client:
            client.sendall(said)
            assert client.recv(100).startswith(b"HTTP/1.1 400")
    serving.close()
    assert capfd.readouterr() == ("", "")


def test_half_characters_are_refused(votes):
    """JSON can hold them, and SQLite cannot."""
    client = client_of(votes)
    begin(client)
    kind = {"Content-Type": "application/json"}
    ballot = {"choice": "left", "zoomed": False, "flickered": False, "milliseconds": 1}
    content = json.dumps({**ballot, "trial": "\ud800", "code": "\ud800"})
    for path, status in (("/resume", 403), ("/vote", 422), ("/undo", 200)):
        assert client.post(path, content=content, headers=kind).status_code == status
    assert votes.done(0) == 0


def test_a_picture_that_is_none_is_not_sent(votes):
    client = client_of(votes)
    pair = begin(client)
    votes._file.execute("UPDATE pictures SET png = x'3c7376673e'")
    assert client.get(pair["pictures"]["left"]).status_code == 404
