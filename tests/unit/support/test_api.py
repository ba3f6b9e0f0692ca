"""The client of the API server: a connection that the server has closed while it was idle is nobody's trouble."""

import http.server
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import trustme

from tests.k8s.api import Api


class Hasty(http.server.BaseHTTPRequestHandler):
    """Says that it keeps the connection, and closes it."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        body = b'{"items": []}'
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
        self.close_connection = True

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the library's name
        pass


@pytest.fixture
def api(tmp_path: Path) -> Iterator[Api]:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hasty)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    client = Api("127.0.0.1", server.server_address[1], tmp_path / "ca.pem", "token")
    yield client
    client.close()
    server.shutdown()
    thread.join()
    server.server_close()


def test_many_idle_connections_that_are_closed_cost_nothing(api: Api) -> None:
    threads = [threading.Thread(target=api.get, args=("/",)) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for _ in range(5):
        assert api.items("/") == []
