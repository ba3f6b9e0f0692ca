"""How clients are told to speak with Kafka: what the settings say, the files they name, and certificates that are renewed."""

import os
import ssl
from pathlib import Path

import pytest
import trustme
from aiokafka.conn import ScramAuthenticator

from shared.kafka.security import PLAINTEXT, CredentialsUnusable, Security, security_of
from shared.runtime.workings import Kafka, KafkaSasl, KafkaTls


@pytest.fixture
def authority() -> trustme.CA:
    return trustme.CA()


def write(directory: Path, authority: trustme.CA, name: str = "client.example") -> KafkaTls:
    issued = authority.issue_cert(name)
    authority.cert_pem.write_to_path(directory / "ca.pem")
    (directory / "cert.pem").write_bytes(b"".join(b.bytes() for b in issued.cert_chain_pems))
    issued.private_key_pem.write_to_path(directory / "key.pem")
    return KafkaTls(directory / "ca.pem", directory / "cert.pem", directory / "key.pem")


def shake(client: ssl.SSLContext, authority: trustme.CA, name: str = "kafka.example") -> str:
    """Shake hands with a broker that wants a certificate, and give the name in the one that it was shown."""
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(name).configure_cert(server)
    authority.configure_trust(server)
    server.verify_mode = ssl.CERT_REQUIRED
    wires = [ssl.MemoryBIO() for _ in range(2)]
    ours = client.wrap_bio(wires[0], wires[1], server_hostname="kafka.example")
    theirs = server.wrap_bio(wires[1], wires[0], server_side=True)
    for _ in range(6):
        for side in (ours, theirs):
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                continue
    shown = theirs.getpeercert()
    assert shown
    return str(shown["subjectAltName"][0][1])


def test_without_settings_nothing_is_encrypted_and_nobody_logs_in() -> None:
    assert security_of(Kafka()) == PLAINTEXT
    assert PLAINTEXT.arguments() == {"security_protocol": "PLAINTEXT"}


def test_a_login_is_what_the_file_says_and_is_never_shown(tmp_path: Path) -> None:
    (tmp_path / "password").write_text("s3cret\n")
    sasl = KafkaSasl("SCRAM-SHA-256", "postyard-sender", tmp_path / "password")
    found = security_of(Kafka(sasl=sasl))
    assert found.arguments() == {
        "security_protocol": "SASL_PLAINTEXT",
        "sasl_mechanism": "SCRAM-SHA-256",
        "sasl_plain_username": "postyard-sender",
        "sasl_plain_password": "s3cret",
    }
    assert "s3cret" not in repr(found)


def test_both_together_are_sasl_over_tls(tmp_path: Path, authority: trustme.CA) -> None:
    (tmp_path / "password").write_text("x")
    kafka = Kafka(
        tls=write(tmp_path, authority), sasl=KafkaSasl(password_file=tmp_path / "password")
    )
    assert security_of(kafka).protocol == "SASL_SSL"


def test_a_broker_is_believed_for_its_name_and_authority_alone(
    tmp_path: Path, authority: trustme.CA
) -> None:
    context = security_of(Kafka(tls=write(tmp_path, authority))).tls
    assert context is not None
    assert shake(context, authority) == "client.example"
    with pytest.raises(ssl.SSLCertVerificationError):
        shake(context, authority, "another.example")
    with pytest.raises(ssl.SSLCertVerificationError):
        shake(context, trustme.CA())


def test_a_renewed_certificate_is_shown_from_the_next_connection_on(
    tmp_path: Path, authority: trustme.CA
) -> None:
    context = security_of(Kafka(tls=write(tmp_path, authority))).tls
    assert context is not None
    # A half-written key changes nothing.
    (tmp_path / "key.pem").write_text("-----BEGIN")
    assert shake(context, authority) == "client.example"
    write(tmp_path, authority, "renewed.example")
    os.utime(tmp_path / "cert.pem", (1, 1))
    assert shake(context, authority) == "renewed.example"


@pytest.mark.parametrize(
    ("broken", "names"),
    [("key.pem", "kafka.tls: "), ("ca.pem", "kafka.tls: "), ("password", "password_file: ")],
)
def test_what_cannot_be_read_is_named(
    tmp_path: Path, authority: trustme.CA, broken: str, names: str
) -> None:
    (tmp_path / "password").write_text("x")
    tls = write(tmp_path, authority)
    (tmp_path / broken).unlink()
    sasl = KafkaSasl(password_file=tmp_path / "password")
    with pytest.raises(CredentialsUnusable, match=names) as caught:
        security_of(Kafka(tls=tls, sasl=sasl))
    assert str(tmp_path / broken) in str(caught.value)
    assert "No such file" in str(caught.value)


def test_a_security_knows_its_protocol() -> None:
    assert Security(mechanism="PLAIN", username="a", password="b").protocol == "SASL_PLAINTEXT"


def login(security: Security) -> bytes:
    """Give the password that a login by SCRAM makes its proof of."""
    given = security.arguments()
    made = ScramAuthenticator(
        loop=None,
        sasl_plain_password=given["sasl_plain_password"],
        sasl_plain_username=given["sasl_plain_username"],
        sasl_mechanism="SCRAM-SHA-512",
    )
    password: bytes = made._sasl_plain_password
    return password


def test_each_login_has_the_password_that_the_file_has_then(tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_text("first\n")
    security = security_of(Kafka(sasl=KafkaSasl("SCRAM-SHA-512", "x", file)))
    assert login(security) == b"first"
    file.write_text("sécond\n")
    assert login(security) == "sécond".encode()
    assert "cond" not in repr(security)


@pytest.mark.parametrize("content", [None, b"", b" \n", b"\xff"])
def test_a_file_that_has_no_password_leaves_the_first(tmp_path: Path, content: bytes | None) -> None:  # fmt: skip
    file = tmp_path / "password"
    file.write_text("first\n")
    security = security_of(Kafka(sasl=KafkaSasl("SCRAM-SHA-512", "x", file)))
    file.unlink()
    if content is not None:
        file.write_bytes(content)
    assert login(security) == b"first"
