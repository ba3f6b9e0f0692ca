"""The receiving server, spoken to by Python's own SMTP client and by hand."""

import hashlib
import smtplib
import socket
import ssl
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import trustme

from tests.support.receiver import Receiver, start_receiver

Start = Callable[..., Receiver]
MESSAGE = b"Message-ID: <1@a.test>\r\nSubject: dots\r\n\r\n.one\r\n..two\r\nend\r\n"


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    started: list[Receiver] = []

    def begin(*options: str) -> Receiver:
        started.append(start_receiver(tmp_path, f"receiver{len(started)}", *options))
        return started[-1]

    yield begin
    for receiver in started:
        receiver.stop()


def connected(receiver: Receiver) -> smtplib.SMTP:
    return smtplib.SMTP("127.0.0.1", receiver.port, "m1.example.com", timeout=10)


def test_a_message_is_kept_as_it_was_and_everything_about_it_is_written_down(
    start: Start, tmp_path: Path
) -> None:
    receiver = start("--maildir", str(tmp_path / "mail"))
    with connected(receiver) as client:
        client.sendmail("bounce@acme.example", ["ann@a.test"], MESSAGE)
    [rcpt], [message] = receiver.seen("rcpt"), receiver.seen("message")
    assert rcpt["reply"] == "250 2.1.5 ok"
    assert (message["peer"], message["ehlo"]) == ("127.0.0.1", "m1.example.com")
    assert (message["sender"], message["rcpt"]) == ("bounce@acme.example", "ann@a.test")
    assert message["message_id"] == "<1@a.test>"
    assert message["sha256"] == hashlib.sha256(MESSAGE).hexdigest()
    assert message["mail_ns"] <= message["rcpt_ns"] <= rcpt["ns"] <= message["ns"]
    assert (tmp_path / "mail" / "new" / message["file"]).read_bytes() == MESSAGE


def test_what_is_pipelined_is_answered_in_order(start: Start) -> None:
    with socket.create_connection(("127.0.0.1", start().port), 10) as peer:
        lines = peer.makefile("rb")
        peer.sendall(b"EHLO a.test\r\n")
        while lines.readline()[:4] != b"250 ":
            pass
        one = b"MAIL FROM:<a@b.test>\r\nRCPT TO:<%b@c.test>\r\nDATA\r\n"
        peer.sendall(one % b"unknown.x" + one % b"ann" + MESSAGE + b".\r\nQUIT\r\n")
        codes = [line[:3].decode() for line in lines]
    assert codes == ["250", "550", "503", "250", "250", "354", "250", "221"]


def test_a_large_message_that_comes_in_many_pieces_is_whole(start: Start) -> None:
    receiver = start()
    body = MESSAGE + b"0123456789\r\n" * 200_000
    with connected(receiver) as client:
        client.sendmail("a@b.test", ["ann@a.test"], body)
    [message] = receiver.seen("message")
    assert message["sha256"] == hashlib.sha256(body).hexdigest()


def test_too_fast_is_421_before_rcpt_and_the_end_of_the_connection(start: Start) -> None:
    receiver = start("--rate", "1")
    with connected(receiver) as client:
        client.sendmail("a@b.test", ["ann@a.test"], MESSAGE)
        with pytest.raises(smtplib.SMTPSenderRefused) as refused:
            client.sendmail("a@b.test", ["ann@a.test"], MESSAGE)
    assert refused.value.smtp_code == 421
    assert len(receiver.seen("rcpt")) == len(receiver.seen("throttled")) == 1


def test_a_dropped_message_was_taken_and_nobody_was_told(start: Start) -> None:
    receiver = start()
    with connected(receiver) as client, pytest.raises(smtplib.SMTPServerDisconnected):
        client.sendmail("a@b.test", ["drop.ann@a.test"], MESSAGE)
    assert receiver.copies() == {"drop.ann@a.test": 1}


def test_a_banner_of_its_own_ends_the_connection(start: Start) -> None:
    with pytest.raises(smtplib.SMTPConnectError) as refused:
        connected(start("--banner", "554 5.7.1 go away"))
    assert refused.value.smtp_code == 554


def test_a_mute_server_accepts_and_never_answers(start: Start) -> None:
    with socket.create_connection(("127.0.0.1", start("--mute").port), 10) as peer:
        peer.settimeout(0.3)
        with pytest.raises(TimeoutError):
            peer.recv(1)


def test_starttls_is_offered_with_a_certificate_and_written_down(
    start: Start, tmp_path: Path
) -> None:
    authority = trustme.CA()
    pem = tmp_path / "mx.pem"
    authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(pem)
    context = ssl.create_default_context()
    authority.configure_trust(context)
    receiver = start("--tls-cert", str(pem))
    with connected(receiver) as client:
        client.starttls(context=context)
        client.sendmail("a@b.test", ["ann@a.test"], MESSAGE)
        assert not client.has_extn("starttls")
    assert receiver.seen("message")[0]["tls"] == "TLSv1.3"


@pytest.mark.parametrize("mechanism", ["PLAIN", "LOGIN"])
def test_only_those_who_are_known_may_send(start: Start, mechanism: str) -> None:
    receiver = start("--user", "ann:secret")
    with connected(receiver) as client:
        client.ehlo()
        with pytest.raises(smtplib.SMTPSenderRefused):
            client.sendmail("a@b.test", ["ann@a.test"], MESSAGE)
        auth = {"PLAIN": client.auth_plain, "LOGIN": client.auth_login}[mechanism]
        client.user, client.password = "ann", "wrong"
        with pytest.raises(smtplib.SMTPAuthenticationError):
            client.auth(mechanism, auth)
        client.password = "secret"
        client.auth(mechanism, auth)
        client.sendmail("a@b.test", ["ann@a.test"], MESSAGE)
    assert receiver.seen("message")[0]["user"] == "ann"


def test_a_wordy_server_says_everything_in_two_lines(start: Start) -> None:
    with connected(start("--wordy")) as client:
        code, text = client.docmd("NOOP")
        client.sendmail("a@b.test", ["ann@a.test"], MESSAGE)
    assert (code, text) == (250, b"2.0.0 ok\n(and that is all)")


def test_a_slow_reply_holds_up_what_comes_behind_it(start: Start) -> None:
    receiver = start("--delay-at", "rcpt=0.4")
    with connected(receiver) as client:
        client.sendmail("a@b.test", ["ann@a.test"], MESSAGE)
    [message] = receiver.seen("message")
    assert message["ns"] - message["rcpt_ns"] >= 390_000_000
