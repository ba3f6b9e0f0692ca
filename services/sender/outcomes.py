"""From what happened on the wire to the record that says so: pure."""

from services.sender.messages import MessageFailed
from services.sender.reach import Unreachable
from services.sender.smtp import classify, reply
from services.sender.smtp.report import Report
from services.sender.smtp.session import Accepted, Dropped, Lost, Refused
from shared.records.grant import Grant
from shared.records.outcome import Handback, Outcome, Reply, Wire


def of_report(grant: Grant, report: Report) -> Outcome | Handback:
    """Say how a transaction ended."""
    verdict = classify.of_result(report.result)
    if verdict is None:
        # We gave up before the dot: the peer has not got it, and nothing is learnt about anybody.
        return Handback(id=grant.id, n=grant.n, slot=grant.slot, epoch=grant.epoch, reason="gate")
    said: Reply | None = None
    match report.result:
        case Accepted(reply=answer):
            said = _reply(answer, "dot")
        case Refused(stage=stage, reply=answer):
            said = _reply(answer, stage)
        case Lost(stage=stage, why=why):
            said = Reply(code=0, text=why, stage=stage)
        case Dropped():
            pass
    return Outcome(
        id=grant.id,
        n=grant.n,
        slot=grant.slot,
        epoch=grant.epoch,
        result=verdict.kind,
        category=verdict.category,
        scope=verdict.scope,
        reply=said,
        wire=report.wire,
    )


def failed_connection(grant: Grant, error: Unreachable) -> Outcome:
    """Say that no connection could be made: the pair's trouble, not the delivery's, but for what is one domain's alone."""
    said = (
        _reply(error.reply, error.stage)
        if error.reply
        else Reply(code=0, text=error.why, stage=error.stage)
    )
    return Outcome(
        id=grant.id,
        n=grant.n,
        slot=grant.slot,
        epoch=grant.epoch,
        result="pair_failed" if error.scope == "pair" else "deferred",
        category=error.category,
        scope=error.scope,
        reply=said,
        wire=Wire(
            source_ip=error.source_ip,
            mx=error.host,
            mx_ip=error.address,
            tls=f"failed: {error.why}" if error.stage == "starttls" else "",
            ms=error.ms,
        ),
    )


def lost_body(grant: Grant, error: MessageFailed, wire: Wire) -> Outcome:
    """Say that the message could not be made: its key or its body is not there."""
    return Outcome(
        id=grant.id,
        n=grant.n,
        slot=grant.slot,
        epoch=grant.epoch,
        result="deferred",
        category=error.category,
        scope="domain" if error.category == "dkim" else "message",
        reply=Reply(code=0, text=str(error), stage="local"),
        wire=wire,
    )


def _reply(answer: reply.Reply, stage: str) -> Reply:
    return Reply(code=answer.code, text=answer.text, enhanced=answer.enhanced, stage=stage)
