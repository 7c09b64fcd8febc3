"""The backend over TLS: through a front that a test puts before its server."""

from __future__ import annotations

import datetime
import socket
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from pollin_actors.backends.valkey import ValkeyBackend
from pollin_actors.errors import BackendUnavailable
from pollin_actors.messages import Count
from tests.backends.valkey_inbox import Inbox
from tests.servers.valkey import Server


class Front:
    """Takes connections with TLS and passes on what comes, until it is closed.

    Arguments:
        folder: where its certificate is put.
        path: of the socket of the server behind it.
    """

    def __init__(self, folder: Path, path: Path) -> None:
        self.certificate = folder / "cert.pem"
        self._path = str(path)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*_certify(folder, self.certificate))
        self._context = context
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = self._listening.getsockname()[1]
        self.accepted = 0
        self._threads = [threading.Thread(target=self._serve)]
        self._threads[0].start()

    def _serve(self) -> None:
        while True:
            try:
                plain, _ = self._listening.accept()
            except OSError:
                return
            self.accepted += 1
            thread = threading.Thread(target=self._pass_on, args=(plain,))
            self._threads.append(thread)
            thread.start()

    def _pass_on(self, plain: socket.socket) -> None:
        with socket.socket(socket.AF_UNIX) as behind:
            behind.connect(self._path)
            try:
                with self._context.wrap_socket(plain, server_side=True) as before:
                    back = threading.Thread(target=_copy, args=(behind, before))
                    back.start()
                    _copy(before, behind)
                    behind.shutdown(socket.SHUT_RDWR)
                    back.join()
            except (OSError, ssl.SSLError):
                plain.close()

    def close(self) -> None:
        self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        for thread in self._threads:
            thread.join()


def _copy(source: socket.socket, target: socket.socket) -> None:
    try:
        while data := source.recv(65536):
            target.sendall(data)
    except OSError:
        return


def _certify(folder: Path, certificate: Path) -> tuple[Path, Path]:
    """A certificate for localhost that it has signed itself, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), True)
        .sign(key, hashes.SHA256())
    )
    certificate.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    secret = folder / "key.pem"
    secret.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return certificate, secret


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    yield server
    server.remove()


@pytest.fixture
def front(tmp_path: Path, server: Server) -> Iterator[Front]:
    front = Front(tmp_path, server.socket)
    yield front
    front.close()


def test_works_over_tls(front: Front) -> None:
    """With one connection, which is kept, however much TLS itself says on it."""
    url = f"valkeys://localhost:{front.port}?ssl_ca_certs={front.certificate}&prefix=tls"
    with Inbox(url) as inbox:
        assert inbox.push(*map(str, range(200))) == ["queued"] * 200
        assert [inbox.push(f"more-{number}") for number in range(20)] == [["queued"]] * 20
        assert inbox.do(Count("orders")) == 220
    assert front.accepted == 1


def test_an_unknown_certificate_is_refused(front: Front) -> None:
    """A server that nobody vouches for is none."""
    with pytest.raises(BackendUnavailable, match="certificate"):
        ValkeyBackend(f"rediss://localhost:{front.port}").open(lambda: 1)
