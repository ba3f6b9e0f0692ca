"""Limits of one site of a provider: what its connections may be goes with its grants, and is never more than the provider's."""

from services.scheduler.policy.sites import Sites
from services.scheduler.policy.totals import Totals
from shared.records.grant import Grant
from shared.runtime.settings import LimitRow, Rate
from tests.unit.services.scheduler.policy.test_ledger import S, World, make_settings

SITE = "mx.slow.example"


def grants(row: LimitRow) -> list[Grant]:
    """Let mail to two sites of a provider, and to one of nobody's, be granted."""
    rows = {"big": LimitRow(connections=5, messages_per_connection=20), SITE: row}
    world = World(make_settings(**rows))
    world.deliver("slow", site=SITE)
    world.deliver("other", site="mx.fast.example")
    world.deliver("own", site=SITE, provider=None)
    world.turn()
    return sorted(world.grants, key=lambda grant: grant.id)


def test_a_sites_connections_go_with_its_grants_and_with_no_others() -> None:
    row = LimitRow(
        connections=2, messages_per_connection=5, connection_rate=Rate(30, 60 * S, burst=1)
    )
    other, own, slow = grants(row)
    assert (slow.connections, slow.site_connections) == (5, 2)
    assert (slow.site_connect_spacing_ns, slow.site_connect_burst) == (2 * S, 1)
    assert (slow.messages_per_connection, other.messages_per_connection) == (5, 20)
    # Where it is no provider's the row is the pair's own.
    assert (own.connections, own.messages_per_connection) == (2, 5)
    for grant in (other, own):
        assert (grant.site_connections, grant.site_connect_spacing_ns) == (0, 0)


def test_a_site_can_only_lower_what_the_provider_has() -> None:
    _, _, slow = grants(LimitRow(messages_per_connection=500, connections=50))
    assert slow.messages_per_connection == 20
    # The sender keeps both, so the more of the two says nothing.
    assert (slow.connections, slow.site_connections) == (5, 50)


def test_without_a_rate_its_mail_waits_with_the_providers() -> None:
    limits = {SITE: LimitRow(connections=2)}
    sites = Sites(make_settings(**limits), Totals(), 1)
    assert sites.of("big", SITE) == ""
    with_rate = Sites(make_settings(**{SITE: LimitRow(rate=Rate(1, S))}), Totals(), 1)
    assert with_rate.of("big", SITE) == SITE
    assert SITE not in with_rate.wires
