"""What destinations have taught the schedulers, for `postyard limits show --learnt` and `postyard queue`."""

from typing import Final

from services.cli.schedulers import Answers, ask
from services.cli.session import talk
from shared.kafka.cluster import Cluster
from shared.records.answers import Learnt, LearntAnswer
from shared.records.times import rfc3339
from shared.runtime.settings import Settings

_DAY_MINUTES: Final = 1_440
_DAY_HOURS: Final = 24


async def asked(cluster: Cluster, settings: Settings, key: str = "") -> Answers[LearntAnswer]:
    """Ask all schedulers, of one destination or of all."""
    query = {"key": key} if key else {}
    return await ask(cluster, settings, LearntAnswer, "/learnt", query=query)


def learnt(settings: Settings, key: str) -> Answers[LearntAnswer]:
    """Ask all schedulers of one destination."""
    return talk(settings, lambda cluster: asked(cluster, settings, key))


def rows(found: Answers[LearntAnswer]) -> list[Learnt]:
    """Put the answers together."""
    each = (row for answer in found.answers for row in answer.learnt)
    return sorted(each, key=lambda row: (row.key, row.source, row.domain, row.partition))


def lessens(row: Learnt) -> bool:
    """Say whether anything is less, or stopped, because of it; else a warning is only remembered."""
    return bool(_said(row))


def told(row: Learnt) -> str:
    """Write one for people."""
    who = f"from {row.source}" if row.source else f"of {row.domain}"
    return f"{row.key} {who}: {'; '.join(_said(row)) or 'warned, nothing is less for it'}"


def _said(row: Learnt) -> list[str]:
    said = []
    if row.level is not None and row.hurt is not None and row.careful_ns is not None:
        whose = " of another source" if row.sibling else ""
        said.append(
            f"{per_time(row.level)} let through, {per_time(row.hurt)}{whose} was too much, below that until {rfc3339(row.careful_ns)}"
        )
    if row.connections is not None:
        said.append(f"{row.connections} connections, {row.connections_hurt} were too many")
    if row.stopped_ns is not None:
        what = "not let in, paused" if row.paused else "stopped"
        said.append(f"{what} until {rfc3339(row.stopped_ns)}")
    if row.probes:
        said.append(f"{row.probes} probes must be taken")
    return said


def per_time(per_day: int) -> str:
    """Write messages a day as a rate that one can picture."""
    if per_day >= _DAY_MINUTES:
        return f"{per_day / _DAY_MINUTES:.4g}/min"
    return f"{per_day / _DAY_HOURS:.4g}/h" if per_day >= _DAY_HOURS else f"{per_day}/d"
