"""What becomes of mail, end to end: every fate that a receiver can choose, smart hosts, TLS, operators' pauses, a drain."""

import asyncio
from pathlib import Path

import dkim
import pytest
import trustme

from tests.support.config import published, submission
from tests.support.stack import Events, Stack
from tests.support.yard import Yard

PARTITIONS = 2


@pytest.mark.timeout(180)
async def test_every_fate_ends_in_its_event_with_the_peers_own_words(yard: Yard) -> None:
    mail = yard.directory / "mail"
    receiver = yard.receiver("--greylist", "2", "--maildir", str(mail))
    stack = yard.stack(receiver)
    fates = {
        "fine": "delivered",
        "defer2": "delivered",
        "unknown": "bounced",
        "refuse": "bounced",
        "full": "expired",
        "drop": "delivered",
    }
    stack.start_all()
    for fate in fates:
        line = submission(f"{fate}.u@a.test", id_=fate)
        await stack.produce(
            [line.replace(b'"v": 1', b'"v": 1, "expires": "25s", "tags": ["x"]', 1)]
        )
    async with Events(stack, PARTITIONS) as events:
        await events.until_final(len(fates), 90)
        ends = {event.submission: event for event in events.finals().values()}
        told = {
            said[0].submission: [event.type for event in said]
            for said in events.by_delivery.values()
        }
    assert {name: event.type for name, event in ends.items()} == fates
    assert all(types[0] == "accepted" for types in told.values())
    assert told["fine"] == ["accepted", "deferred", "delivered"], "greylisted once"
    assert "unknown" in told["drop"], "lost after the dot: nobody knows"
    assert ends["drop"].maybe_duplicate
    bounced = ends["unknown"]
    assert bounced.reply is not None
    assert (bounced.reply.code, bounced.reply.enhanced, bounced.category) == (
        550,
        "5.1.1",
        "invalid_mailbox",
    )
    fine = ends["fine"]
    assert fine.tags == ("x",)
    assert fine.wire is not None
    assert fine.wire.mx == "127.0.0.1"
    assert fine.wire.mail_ns < fine.wire.end_ns
    # Greylisting knows the address: the second try came from the same one.
    peers = {line["peer"] for line in receiver.seen("rcpt") if line["rcpt"] == "fine.u@a.test"}
    assert len(peers) == 1
    for path in (mail / "new").iterdir():
        assert dkim.verify(path.read_bytes(), dnsfunc=published(yard.directory))


@pytest.mark.timeout(180)
async def test_a_smart_host_gets_the_mail_with_authentication_over_tls(yard: Yard) -> None:
    pem = certificate(yard.directory)
    receiver = yard.receiver("--tls-cert", str(pem), "--user", "postyard:secret")
    (yard.directory / "password").write_text("secret\n")
    relay = (
        f'[sources.relay]\nslot = 3\nkind = "smarthost"\nhost = "127.0.0.1"\nport = {receiver.port}\nusername = "postyard"\n'
        'password_file = "password"\ntls = "encrypted"\nwarmup = "none"\n\n[pools.relay]\nsources = { relay = 1 }\n'
    )
    stack = yard.stack(receiver, more=relay)
    stack.config = stack.config.replace('bulk = "main" }', 'bulk = "relay" }')
    stack.start_all()
    await stack.produce([submission(f"u{at}@example.org") for at in range(30)])
    async with Events(stack, PARTITIONS) as events:
        await events.until_final(30, 60)
        finals = list(events.finals().values())
    assert {(event.type, event.relayed, event.source) for event in finals} == {
        ("delivered", True, "relay")
    }
    assert {line["tls"] for line in receiver.seen("message")} == {"TLSv1.3"}
    assert {event.wire.tls for event in finals if event.wire} == {"TLSv1.3"}


def certificate(directory: Path) -> Path:
    issued = trustme.CA().issue_cert("localhost", "127.0.0.1")
    path = directory / "cert.pem"
    issued.private_key_and_cert_chain_pem.write_to_path(path)
    return path


@pytest.mark.timeout(180)
async def test_encrypted_is_never_plaintext_and_opportunistic_takes_what_there_is(
    yard: Yard,
) -> None:
    pem = certificate(yard.directory)
    plain = yard.receiver(name="plain")
    secure = yard.receiver("--tls-cert", str(pem), name="secure")
    routes = {
        "*.strict.test": (plain.target, "strict"),
        "*.easy.test": (plain.target, "easy"),
        "*.secure.test": (secure.target, "secure"),
    }
    careful = (
        '[tenants.careful]\ndomains = ["acme.example"]\npools = { transactional = "main", bulk = "main" }\n'
        'unsigned = true\ntls = "verified"'
    )
    # One source and one connection: what the first tenant opened is there for the second.
    stack = yard.stack(routes, sources=("127.0.0.11",), more=careful)
    for name in ("strict", "secure"):
        head = f"[providers.{name}]\n"
        stack.config = stack.config.replace(head, f'{head}tls = "encrypted"\n')
    stack.start_all()
    await stack.produce(
        [
            submission(f"u@a.{name}.test", id_=name).replace(b'"v": 1', b'"v": 1' + until, 1)
            for name, until in (("strict", b', "expires": "12s"'), ("easy", b""), ("secure", b""))
        ]
    )
    async with Events(stack, PARTITIONS) as events:
        await events.until_final(3, 60)
        ends = {event.submission: event.type for event in events.finals().values()}
    assert ends == {"strict": "expired", "easy": "delivered", "secure": "delivered"}
    assert {line["rcpt"] for line in plain.seen("message")} == {"u@a.easy.test"}
    assert [line["tls"] for line in secure.seen("message")] == ["TLSv1.3"]
    # A tenant that wants the certificate to fit gets no use of the connection that stands, and no pair is paused over it.
    both = [("careful", "careful", b', "expires": "8s"'), ("acme", "again", b"")]
    await stack.produce(
        [
            submission("u@b.secure.test", id_=name)
            .replace(b'"v": 1', b'"v": 1' + until, 1)
            .replace(b'"acme"', b'"%b"' % tenant.encode(), 1)
            for tenant, name, until in both
        ]
    )
    async with Events(stack, PARTITIONS) as events:
        await events.until_final(5, 60)
        ends = {event.submission: event.type for event in events.finals().values()}
        assert (ends["careful"], ends["again"]) == ("expired", "delivered")
        told = [
            event
            for said in events.by_delivery.values()
            for event in said
            if event.submission == "careful" and event.type == "deferred"
        ]
    assert {(event.category, event.scope) for event in told} == {("tls", "domain")}
    assert {line["rcpt"] for line in secure.seen("message")} == {
        "u@a.secure.test",
        "u@b.secure.test",
    }
    assert len(secure.seen("message")) == 2


@pytest.mark.timeout(180)
async def test_a_pause_stops_a_tenants_mail_and_a_resume_lets_it_go(yard: Yard) -> None:
    receiver = yard.receiver()
    stack = yard.stack(receiver)
    stack.start_all()
    stack.cli("pause", "--tenant", "acme", "--reason", "a test", "--author", "tests")
    await asyncio.sleep(1)
    await stack.produce([submission(f"u{at}@a.test") for at in range(20)])
    async with Events(stack, PARTITIONS) as events:
        await events.until_accepted(20, 60)
        await asyncio.sleep(3)
        await events.read()
        assert events.finals() == {}
        assert receiver.copies() == {}
        assert 'reason="directive"' in stack.services[1].metrics()
        stack.cli("resume", "--tenant", "acme", "--reason", "the test goes on", "--author", "tests")
        await events.until_final(20, 30)


@pytest.mark.timeout(180)
async def test_a_drained_sender_hands_back_and_another_sends_without_a_wait(yard: Yard) -> None:
    receiver = yard.receiver("--dot-delay", "0.1")
    stack = yard.stack(receiver, limits="[limits.local]\nconnections = 2")
    messages = 300
    stack.start_all()
    first = stack.services[-1]
    stack.start("sender", wait=False)
    await stack.produce(submission(f"u{at}@a.test") for at in range(messages))
    async with Events(stack, PARTITIONS) as events:
        await events.until_final(20, 60)
        assert first.terminate() == 0
        await events.until_final(messages, 60)
        assert events.types() == {"delivered": messages}
        assert not any(
            event.type == "unknown" for said in events.by_delivery.values() for event in said
        )
    assert set(receiver.copies().values()) == {1}


@pytest.mark.timeout(240)
async def test_a_backlog_that_does_not_fit_into_memory_holds_up_nobody_and_goes_when_it_can(
    yard: Yard,
) -> None:
    receiver = yard.receiver()
    routes = {f"*.{name}.test": (receiver.target, name) for name in ("quick", "dead")}
    # One partition: its bound is 40 deliveries of each class.
    stack = yard.stack(routes, partitions=1, more="[scheduler]\nmax_waiting = 80")
    stack.start_all()
    stack.cli("pause", "--provider", "dead", "--reason", "it is down", "--author", "test")
    await stack.produce(submission(f"u{at}@a.dead.test") for at in range(200))
    async with Events(stack, 1) as events:
        await events.until_accepted(200, 60)
        await stack.produce([submission(f"u{at}@a.quick.test") for at in range(60)])
        await events.until_final(60, 60)
        assert {event.provider for event in events.finals().values()} == {"quick"}
        assert _waiting(stack, "directive") < 40
        assert _waiting(stack, "parked") > 150
        # Its next owner reads of it in mail.state.
        scheduler = stack.services[1]
        scheduler.kill()
        stack.wait_ready(stack.start("scheduler"))
        stack.cli("resume", "--provider", "dead", "--author", "test", "--reason", "it is back")
        await events.until_final(260, 120)
        assert set(events.types()) == {"delivered"}
    assert set(receiver.copies().values()) == {1}


def _waiting(stack: Stack, reason: str) -> float:
    """Count what the scheduler says is waiting for ``reason``."""
    page = stack.services[1].metrics()
    return sum(
        float(line.rpartition(" ")[2])
        for line in page.splitlines()
        if line.startswith("postyard_deliveries{") and f'reason="{reason}"' in line
    )
