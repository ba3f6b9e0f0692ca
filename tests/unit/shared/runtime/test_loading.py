from pathlib import Path

import pytest

from services.cli.lanes import Grown, grow
from shared.runtime import defaults
from shared.runtime.layers import resolve
from shared.runtime.loading import SettingsError, load
from shared.runtime.settings import Limit, LimitRow, Proxy, Rate, Route, Settings, Source, Tenant
from shared.runtime.workings import KafkaSasl, KafkaTls

MIN = 60_000_000_000
GOOD = """
[kafka]
bootstrap = "kafka-1:9092, kafka-2:9092"
slots = 16
[sources.ip-1]
slot = 0
kind = "bind"
address = "192.0.2.10"
ehlo = "m1.example.com"
warmup = "none"
[sources.ip-2]
slot = 1
kind = "bind"
address = "192.0.2.11"
ehlo = "m2.example.com"
warmup = "none"
[sources.relay]
slot = 9
kind = "smarthost"
host = "smtp.relay.example"
username = "acme"
password_file = "secrets/relay"
warmup = "none"
[pools.bulk]
sources = { ip-1 = 3, ip-2 = 1 }
[pools.tx]
sources = { relay = 1 }
[tenants.acme]
domains = ["Acme.example"]
pools = { transactional = "tx", bulk = "bulk" }
dkim = [{ domain = "acme.example", selector = "s1", key_file = "secrets/acme.pem" }]
"""

PROXIED = """
[sources.ip-3]
slot = 3
kind = "proxy"
address = "2001:db8::7"
ehlo = "m3.example.com"
via = ["socks5://acme@10.0.0.5:1080", "proxy-v2://10.0.0.6:2525"]
password_file = "secrets/proxy"
warmup = "none"
"""
DIRECT = """
[sources.ip-4]
slot = 4
kind = "direct"
address = "198.51.100.7"
ehlo = "m4.example.com"
ordinal = 2
warmup = "none"
"""
ANOTHER = str.maketrans("47", "58")


def read(folder: Path, text: str, env: dict[str, str] | None = None) -> Settings:
    file = folder / "postyard.toml"
    file.write_text(text)
    return load(file, env or {})


def problems(folder: Path, text: str, env: dict[str, str] | None = None) -> list[str]:
    with pytest.raises(SettingsError) as caught:
        read(folder, text, env)
    return caught.value.problems


def changed(old: str, new: str) -> str:
    assert old in GOOD
    return GOOD.replace(old, new)


# -- what is read


def test_a_configuration_becomes_settings(tmp_path: Path) -> None:
    settings = read(tmp_path, GOOD)
    assert settings.kafka.bootstrap == "kafka-1:9092,kafka-2:9092"
    assert settings.sources["ip-1"] == Source(
        "ip-1", 0, "bind", "none", ehlo="m1.example.com", address="192.0.2.10"
    )
    assert settings.pools["bulk"].sources == {"ip-1": 3, "ip-2": 1}
    acme = settings.tenants["acme"]
    assert isinstance(acme, Tenant)
    assert acme.domains == ("acme.example",)
    assert acme.dkim[0].key_file == tmp_path / "secrets/acme.pem"
    assert settings.source_of(9) == settings.sources["relay"]
    assert settings.smarthost("tx") == "relay"
    assert settings.smarthost("bulk") is None


def test_secrets_are_only_named_so_a_service_without_them_starts(tmp_path: Path) -> None:
    relay = read(tmp_path, GOOD).sources["relay"]
    assert relay.password_file == tmp_path / "secrets/relay"
    assert not relay.password_file.exists()


def test_a_directory_is_one_configuration(tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_text(GOOD)
    (tmp_path / "b.toml").write_text("[limits.gmail]\nrate = '60/min'\n[kafka]\npartitions = 4\n")
    (tmp_path / "notes.txt").write_text("not read")
    settings = load(tmp_path, {})
    assert settings.kafka.partitions == 4
    assert settings.kafka.slots == 16
    assert settings.limits["gmail"].rate == Rate(60, MIN)


def test_a_value_in_two_files_is_an_error_that_names_both(tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_text(GOOD)
    (tmp_path / "b.toml").write_text("[kafka]\nslots = 9\n[pools]\nbulk = 1\n")
    with pytest.raises(SettingsError) as caught:
        load(tmp_path, {})
    assert caught.value.problems == [
        "kafka.slots: said in a.toml, and again in b.toml",
        "pools.bulk: said in a.toml, and again in b.toml",
    ]


@pytest.mark.parametrize(
    ("content", "problem"),
    [("[kafka", "not TOML"), ("", "there is nothing in it"), (None, "cannot be read")],
)
def test_a_file_that_cannot_be_used_is_named(
    tmp_path: Path, content: str | None, problem: str
) -> None:
    file = tmp_path / "x.toml"
    if content is not None:
        file.write_text(content)
    with pytest.raises(SettingsError, match=problem) as caught:
        load(file, {})
    assert len(caught.value.problems) == 1
    assert caught.value.problems[0].startswith(str(file))


def test_a_directory_without_a_file_is_no_configuration(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"no \*\.toml file in this directory"):
        load(tmp_path, {})


def test_the_environment_wins_where_pods_differ(tmp_path: Path) -> None:
    env = {"POSTYARD_KAFKA_BOOTSTRAP": "127.0.0.1:1", "POSTYARD_HTTP_PORT": "0"}
    settings = read(tmp_path, GOOD, env)
    assert settings.kafka.bootstrap == "127.0.0.1:1"
    assert settings.http.port == 0


def test_an_environment_that_says_nonsense_is_a_problem(tmp_path: Path) -> None:
    env = {"POSTYARD_KAFKA_BOOTSTRAP": "kafka", "POSTYARD_HTTP_PORT": "http"}
    assert problems(tmp_path, GOOD, env) == [
        'POSTYARD_KAFKA_BOOTSTRAP: expected host:port such as 127.0.0.1:2525, got "kafka"',
        'POSTYARD_HTTP_PORT: expected a number from 0 to 65535, got "http"',
    ]


def test_a_proxied_source_has_its_ways_out_and_their_password(tmp_path: Path) -> None:
    source = read(tmp_path, GOOD + PROXIED).sources["ip-3"]
    assert source.via == (
        Proxy("socks5", "10.0.0.5", 1080, "acme"),
        Proxy("proxy-v2", "10.0.0.6", 2525),
    )
    assert (source.address, source.family) == ("2001:db8::7", "v6")
    assert source.password_file == tmp_path / "secrets/proxy"


@pytest.mark.parametrize(
    ("env", "ordinal"),
    [
        ({}, None),
        ({"HOSTNAME": "sender-3"}, 3),
        ({"HOSTNAME": "sender"}, None),
        ({"HOSTNAME": "sender-3", "POSTYARD_ORDINAL": "1"}, 1),
        ({"HOSTNAME": "sender-3", "POSTYARD_ORDINAL": "none"}, None),
    ],
)
def test_a_sender_has_the_number_of_its_pod(
    tmp_path: Path, env: dict[str, str], ordinal: int | None
) -> None:
    assert read(tmp_path, GOOD + DIRECT, env).sender.ordinal == ordinal


def test_a_number_in_the_file_is_before_the_hosts_and_behind_the_environments(
    tmp_path: Path,
) -> None:
    text = GOOD + "[sender]\nordinal = 7\n"
    assert read(tmp_path, text, {"HOSTNAME": "sender-3"}).sender.ordinal == 7
    assert read(tmp_path, text, {"POSTYARD_ORDINAL": "2"}).sender.ordinal == 2
    assert problems(tmp_path, text, {"POSTYARD_ORDINAL": "x"}) == [
        'POSTYARD_ORDINAL: expected a number from 0 to 9999, got "x"'
    ]


# -- what is refused


def test_all_problems_come_at_once_each_with_its_path(tmp_path: Path) -> None:
    text = changed("slot = 1\n", "slot = 0\n").replace("ip-2 = 1", "ip-9 = 1")
    text += '[limits.gmail]\nrate = "fast"\nrte = 1\n'
    assert problems(tmp_path, text) == [
        'limits.gmail.rate: expected a rate such as "600/min", got "fast"',
        "limits.gmail.rte: unknown key; did you mean rate?",
        "sources.ip-2.slot: 0 is already the slot of ip-1",
        "pools.bulk.sources.ip-9: no such source: ip-9; did you mean ip-2?",
    ]


def test_what_could_not_be_read_is_not_compared_with_anything(tmp_path: Path) -> None:
    text = changed("slot = 1\n", 'slot = "one"\n').replace('"192.0.2.11"', '"here"')
    assert problems(tmp_path, text) == [
        'sources.ip-2.slot: expected a number from 0 to 8191, got "one"',
        'sources.ip-2.address: expected an IP address, got "here"',
    ]


@pytest.mark.parametrize("row", ["default", "gmail", '"mx.example"'])
def test_a_total_has_a_token_for_each_slot_group(tmp_path: Path, row: str) -> None:
    text = changed("slots = 16", "slots = 256").replace("slot = 1\n", "slot = 200\n")
    read(tmp_path, f'{text}[limits.{row}]\ntotal_rate = "2/h"')
    for dealt in (
        "tenant:acme",
        "gmail/tenant:acme",
        "gmail/domain:acme.example",
        "smarthost:relay",
    ):
        read(tmp_path, f'{text}[limits."{dealt}"]\ntotal_rate = "1/h"')
    path = f"limits.{row}.total_rate"
    (problem,) = problems(tmp_path, f'{text}[limits.{row}]\ntotal_rate = "1/h"')
    assert problem.startswith(f"{path}: it is divided between the 2 slot groups of the sources")
    assert problem.endswith("expected at least 2, got 1")


def test_something_spills_in_each_slot_group(tmp_path: Path) -> None:
    text = changed("slots = 16", "slots = 256").replace("slot = 1\n", "slot = 200\n")
    text = text.replace("ip-2 = 1 }", 'ip-2 = 1 }\nspill = { to = "tx", after = "1h", daily = 2 }')
    read(tmp_path, text)
    (problem,) = problems(tmp_path, text.replace("daily = 2", "daily = 1"))
    assert problem.startswith("pools.bulk.spill.daily: it is divided between the 2 slot groups")
    assert problem.endswith("expected at least 2, got 1")


def test_a_name_that_nobody_knows_is_answered_with_a_dozen_at_most(tmp_path: Path) -> None:
    tenants = "".join(
        f'[tenants.t{number:04}]\ndomains = ["t{number}.example"]\npools = {{ transactional = "tx", bulk = "bulk" }}\n'
        for number in range(2000)
    )
    rows = '[limits."tenant:nobody"]\ntotal_rate = "1/h"\n'
    (problem,) = problems(tmp_path, GOOD + tenants + rows)
    assert problem.endswith(
        "no such tenant: nobody; there are: acme, t0000, t0001, t0002, t0003, t0004, t0005, t0006, t0007, t0008, t0009, t0010, "
        "and 1989 more"
    )
    near = rows.replace("nobody", "t12O4")
    (problem,) = problems(tmp_path, GOOD + tenants + near)
    assert "; did you mean t" in problem


ROUTED = """
[routes]
"*.test" = { to = "127.0.0.1:2525" }
"*.gmail.test" = { to = "127.0.0.1:2526", provider = "gmail" }
"""


@pytest.mark.parametrize(
    ("more", "problem"),
    [
        ('[limits.gmail]\ntotal_bytes = "1MiB/h"', "limits.gmail.total_bytes: bytes are counted for each source by itself"),
        ('[limits."tenant:acme"]\nbytes = "1MiB/h"', 'limits."tenant:acme".bytes: a tenant\'s or a domain\'s mail is counted'),
        ('[limits."gmail/relay"]\nrate = "1/s"', 'limits."gmail/relay": relay is a smart host, and all that goes'),
        ('[limits."gmail/pool:tx"]\nrate = "1/s"', 'limits."gmail/pool:tx": relay is a smart host, and all that goes'),
        ('[limits."smarthost:relay/ip-1"]\nrate = "1/s"', 'limits."smarthost:relay/ip-1": nothing goes from ip-1'),
        ('[limits."smarthost:relay/pool:bulk"]\nrate = "1/s"', 'limits."smarthost:relay/pool:bulk": nothing goes from pool:bulk'),
        ('[limits."b.example,A.example"]\nrate = "1/s"', 'limits."b.example,A.example": a site is written as its MX hosts'),
        ('[limits."a.example, b.example"]\nrate = "1/s"', 'limits."a.example, b.example": a site is written as its MX hosts'),
        ('[limits."127.0.0.1:25"]\nrate = "1/s"', 'limits."127.0.0.1:25": no route leads to 127.0.0.1:25'),
        ('[limits."127.0.0.1:2525"]\nstart_rate = "1/s"', 'limits."127.0.0.1:2525".start_rate: only a site grows that no route'),
        ('[limits."127.0.0.1:2526"]\nbytes = "1MiB/h"', 'limits."127.0.0.1:2526".bytes: this is a site of gmail'),
        ('[limits."mx.google.com/ip-1"]\nrate = "1/s"', 'limits."mx.google.com/ip-1": this is a site of gmail, and is limited as a whole'),
        ('[limits."mx.google.com/tenant:acme"]\ntotal_rate = "1/h"', 'limits."mx.google.com/tenant:acme": this is a site of gmail'),
        ('[providers.gmial]\ntls = "encrypted"', "providers.gmial: no mail is of it: expected mx, domains, or a route with it; did"),
        ('[providers.x]\nmx = [".corp.google.com"]', "providers.x.mx: .corp.google.com is already gmail's, by"),
        ('[providers.x]\nmx = ["mx.google.com"]', "providers.x.mx: mx.google.com is already gmail's, by"),
        ('[providers.x]\ndomains = ["d.example"]\n[providers.y]\ndomains = ["d.example"]', "providers.y.domains: d.example is already"),
    ],
)  # fmt: skip
def test_what_would_hold_for_nobody_is_refused(tmp_path: Path, more: str, problem: str) -> None:
    (found,) = problems(tmp_path, GOOD + ROUTED + more)
    assert found.startswith(problem)


@pytest.mark.parametrize(
    "more",
    [
        '[limits."smarthost:relay/relay"]\nrate = "1/s"',
        '[limits."smarthost:relay/pool:tx"]\nrate = "1/s"',
        '[limits."smarthost:relay"]\ntotal_connections = 1',
        '[limits."a.example,b.example"]\nrate = "1/s"',
        '[limits."a.example/ip-1"]\nrate = "1/s"',
        '[limits."127.0.0.1:2525"]\nrate = "1/s"',
        '[limits."127.0.0.1:2525/ip-1"]\nrate = "1/s"',
        '[limits."127.0.0.1:2526"]\nrate = "1/s"',
        '[limits."mx.google.com"]\nrate = "1/s"',
        '[providers.x]\n[routes."*.x.test"]\nto = "127.0.0.1:25"\nprovider = "x"',
    ],
)
def test_what_holds_for_somebody_is_taken(tmp_path: Path, more: str) -> None:
    routed = ROUTED if "[routes" not in more else ""
    read(tmp_path, GOOD + routed + more)


def test_the_lanes_of_every_slot_group_can_be_placed(tmp_path: Path) -> None:
    text = changed("slots = 16", "slots = 256").replace("slot = 1\n", "slot = 200\n")
    rows = '[lanes]\n"provider:gmail@1" = 3\n"site:3@1" = 2\n'
    lanes = {"provider:gmail@1": 3, "site:3@1": 2}
    assert read(tmp_path, text + rows).lanes == lanes
    grown = grow(None, read(tmp_path, text + rows))
    assert isinstance(grown, Grown)
    assert lanes.items() <= grown.proposal.lanes.items()
    (problem,) = problems(tmp_path, f'{text}[lanes]\n"site:3@2" = 2')
    assert problem.endswith("there are: @1")


def test_mail_is_tied_to_one_source_only_within_a_slot_group(tmp_path: Path) -> None:
    text = changed("slots = 16", "slots = 256").replace("slot = 1\n", "slot = 200\n")
    read(tmp_path, text.replace("ip-2 = 1 }", 'ip-2 = 1 }\nsticky = "recipient"'))
    (problem,) = problems(tmp_path, text.replace("ip-2 = 1 }", 'ip-2 = 1 }\nsticky = "tenant"'))
    assert problem.startswith('pools.bulk.sticky: "tenant" ties mail to one source')
    assert "slot groups 0, 1" in problem


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ("slots = 16", "slots = 9", "sources.relay.slot: expected at most 8, since kafka.slots = 9; got 9"),
        ("slots = 16", "slots = 9000", "kafka.slots: expected a number from 1 to 8192, got 9000"),
        ('warmup = "none"\n[sources.ip-2]', "[sources.ip-2]", "sources.ip-1.warmup: is required"),
        ('warmup = "none"\n[sources.ip-2]', 'warmup = "gentle"\n[sources.ip-2]', "sources.ip-1.warmup: no such schedule: gentle; there"),
        ('"192.0.2.11"', '"192.0.2.10"', "sources.ip-2.address: 192.0.2.10 is already the address of ip-1"),
        ('ehlo = "m2.example.com"\n', "", "sources.ip-2.ehlo: is required"),
        ('host = "smtp.relay.example"\n', "", "sources.relay.host: is required"),
        ('password_file = "secrets/relay"\n', "", "sources.relay.password_file: is required where there is a username"),
        ('username = "acme"\n', "", "sources.relay.username: is required where there is a password_file"),
        ('username = "acme"\n', 'username = "acme"\nport = 465\ntls = "opportunistic"\n', "sources.relay.tls: port 465 speaks TLS"),
        ("relay = 1", "relay = 1, ip-1 = 1", "pools.tx.sources.relay: a smart host is a lane of its own"),
        ("relay = 1", "relay = 0", "pools.tx.sources.relay: expected a number from 1 to 1000, got 0"),
        ("{ relay = 1 }", "{}", "pools.tx.sources: expected at least one source, such as { ip-1 = 1 }"),
        ('{ transactional = "tx", bulk = "bulk" }', '{ bulk = "bulk" }', "tenants.acme.pools.transactional: is required"),
        ('transactional = "tx"', 'transactional = "xt"', "tenants.acme.pools.transactional: no such pool: xt; there are: bulk, tx"),
        ('domain = "acme.example"', 'domain = "other.example"', "tenants.acme.dkim[0].domain: other.example is none of"),
        ('["Acme.example"]', "[]", "tenants.acme.domains: expected at least one domain"),
        ("[tenants.acme]", '[tenants."a/b"]', 'tenants."a/b": expected a name of letters, digits, - and _ (at most 64), got "a/b"'),
    ],
)  # fmt: skip
def test_one_mistake_is_one_problem(tmp_path: Path, old: str, new: str, problem: str) -> None:
    (found,) = problems(tmp_path, changed(old, new))
    assert found.startswith(problem)


_ROW = '{ domain = "acme.example", selector = "s1", key_file = "secrets/acme.pem" }'


def _rows(*more: str) -> str:
    rows = [f'{{ domain = "acme.example", key_file = "k", {row} }}' for row in more]
    return changed(f"[{_ROW}]", f"[{', '.join(rows)}]")


def test_a_key_says_how_and_from_when_until_when_it_signs(tmp_path: Path) -> None:
    text = _rows(
        'selector = "a", until = 2027-02-01T01:00:00+01:00',
        'selector = "b", from = 2027-02-01, canonicalization = "simple/relaxed"',
    )
    old, new = read(tmp_path, text).tenants["acme"].dkim
    february = 1_801_440_000 * 1_000_000_000
    assert (old.from_ns, old.until_ns, old.canonicalization) == (
        0,
        february,
        ("relaxed", "relaxed"),
    )
    assert (new.from_ns, new.until_ns, new.canonicalization) == (
        february,
        None,
        ("simple", "relaxed"),
    )
    assert [old.valid(february - 1), new.valid(february - 1)] == [True, False]
    assert [old.valid(february), new.valid(february)] == [False, True]


@pytest.mark.parametrize(
    ("rows", "problem"),
    [
        (['selector = "a"', 'selector = "a"'], "[1].selector: a is already the selector of tenants.acme.dkim[0]"),
        (['selector = "a", from = 2027-02-01, until = 2027-02-01'], "[0].until: expected a moment after from"),
        (['selector = "a", from = 2027-02-01T00:00:00'], "[0].from: expected a day or a moment with its offset"),
        (['selector = "a", from = "2027-02-01"'], "[0].from: expected a day or a moment with its offset"),
        (['selector = "a", canonicalization = "simple"'], "[0].canonicalization: expected relaxed/relaxed, relaxed/simple"),
        (['selector = "b", from = 2027-02-02', 'selector = "a", until = 2027-02-01'], "[0].from: nothing signs for acme.example just"),
        (
            [
                'selector = "a", until = 2027-02-01',
                'selector = "c", from = 2027-02-03',
                'selector = "b", from = 2027-01-01, until = 2027-02-02',
            ],
            "[1].from: nothing signs",
        ),
    ],
)  # fmt: skip
def test_keys_that_do_not_fit_together_are_refused(
    tmp_path: Path, rows: list[str], problem: str
) -> None:
    (found,) = problems(tmp_path, _rows(*rows))
    assert found.startswith(f"tenants.acme.dkim{problem}")


def test_keys_that_overlap_leave_no_gap(tmp_path: Path) -> None:
    text = _rows(
        'selector = "b", from = 2027-02-01',
        'selector = "a", until = 2027-02-15',
        'selector = "c", from = 2027-01-01, until = 2027-01-02',
    )
    assert len(read(tmp_path, text).tenants["acme"].dkim) == 3


def test_a_tenant_that_may_send_unsigned_may_have_a_time_without_a_key(tmp_path: Path) -> None:
    text = _rows('selector = "a", until = 2027-02-01', 'selector = "b", from = 2027-02-02')
    assert read(tmp_path, text + "unsigned = true\n").tenants["acme"].unsigned


@pytest.mark.parametrize(
    ("more", "problem"),
    [
        ("[kafka.x]", "kafka.x: unknown key"),
        ("[limts]", "limts: unknown key; did you mean limits?"),
        ("[classes.news]", "classes.news: unknown key"),
        ('[classes.bulk]\nexpires = "121h"', "classes.bulk.expires: expected at most 5d"),
        ('[classes.bulk]\nexpires = "3d"\n[ingest]\nmax_lifetime = "2d"', "classes.bulk.expires: expected at most ingest.max_lifetime"),
        ("[classes.bulk]\nretry = []", "classes.bulk.retry: expected a list of durations"),
        ('[limits.gmial]\nrate = "1/s"', "limits.gmial: no such provider: gmial; did you mean gmail?"),
        ('[limits."gmail/ip-7"]\nrate = "1/s"', 'limits."gmail/ip-7": no such source: ip-7'),
        ('[limits."gmail/ip-1"]\ntotal_rate = "1/s"', 'limits."gmail/ip-1": a total counts over all sources'),
        ('[limits."default/ip-1"]\nrate = "1/s"', 'limits."default/ip-1": the default holds for all'),
        ('[limits."gmail/pool:x"]\nrate = "1/s"', 'limits."gmail/pool:x": no such pool: x'),
        ('[limits."gmail/pool:tx"]\ntotal_rate = "1/s"', 'limits."gmail/pool:tx": a total counts over all sources'),
        ('[limits."gmail/ip-1"]\nstart_rate = "1/s"', 'limits."gmail/ip-1".start_rate: it belongs to limits.gmail'),
        ('[limits.gmail]\nstart_rate = "1/s"', "limits.gmail.start_rate: only a site grows"),
        ('[limits."aspmx.l.google.com"]\ntotal_connections = 9', 'limits."aspmx.l.google.com".total_connections: this is a site of gmail'),
        ('[limits.gmail]\nbytes = "50MiB/s"', 'limits.gmail.bytes: expected bytes per min, h or d such as "50MiB/min"'),
        ('[limits.gmail]\nbytes = "600/min"', "limits.gmail.bytes: expected bytes per min, h or d"),
        ('[limits.gmail]\nbytes = "63KiB/min"', "limits.gmail.bytes: expected at least 64KiB"),
        ('[limits."aspmx.l.google.com"]\nbytes = "1MiB/min"', 'limits."aspmx.l.google.com".bytes: this is a site of gmail'),
        ('[limits."gmail/tenant:acme"]\nbytes = "1MiB/min"', 'limits."gmail/tenant:acme".bytes: a tenant'),
        ('[limits."tenant:acne"]\ntotal_rate = "1/h"', 'limits."tenant:acne": no such tenant: acne; did you mean acme?'),
        ('[limits."gmail/tenant:acme"]\nrate = "1/h"', 'limits."gmail/tenant:acme".rate: a tenant'),
        ('[limits."gmail/tenant:acme"]\ntotal_rate = "1/s"', 'limits."gmail/tenant:acme".total_rate: expected a rate per min'),
        ('[limits."gmail/domain:b.example"]\ntotal_rate = "1/h"', 'limits."gmail/domain:b.example": no such domain of a tenant'),
        ("[limits.gmail]\ntotal_connections = 1", "limits.gmail.total_connections: expected at least 2"),
        ('[limits."smarthost:relax"]\nrate = "1/s"', 'limits."smarthost:relax": no such smart host'),
        ('[routes]\n"*.test" = { to = "127.0.0.1" }', 'routes."*.test".to: expected host:port'),
        ('[routes]\n"*.test" = { to = "127.0.0.1:1", provider = "gmial" }', 'routes."*.test".provider: no such provider'),
        ('[routes]\n"a*.test" = { to = "127.0.0.1:1" }', 'routes."a*.test": expected a domain, "*.domain" or "*"'),
        ('[providers.x]\ntls = "always"', "providers.x.tls: expected one of opportunistic, encrypted, verified"),
        ('[providers.x]\nfamilies = ["v5"]', 'providers.x.families: expected "v4", "v6" or both'),
        ("[providers.default]", "providers.default: this name means every destination without a provider"),
        ('[timing]\nwait = "6s"', "timing.wait: expected at least fresh + skew"),
        ('[timing]\nsilence = "5s"', "timing.silence: expected more than fresh"),
        ('[timing]\nheartbeat = "2s"', "timing.fresh: expected at least 3 x heartbeat"),
        ('[timing]\nmark = "0s"', "timing.mark: expected more than no time"),
        ('[ingest]\nmax_message = "26MiB"', "ingest.max_message: expected at most 25MiB"),
        ('[ingest]\nmax_message = "1KiB"\ninline_max = "1KiB"', "ingest.max_message: expected at least 64KiB"),
        ('[timing]\nlease = "2h"\nattempt_max = "3h"', "timing.lease: expected at most 1h: mail.dispatch keeps"),
        ('[net]\nallow = ["10.1.0.0/16"]\ndeny = ["10.0.0.0/8"]', "net.allow[0]: 10.1.0.0/16 lies in 10.0.0.0/8 of net.deny"),
        ('[classes.bulk]\nunknown = { policy = "hold", retry = 3 }', "classes.bulk.unknown.retry: it belongs to policy"),
        ("[warmups.w]\ndays = { from = 25, growth = 1.000001, to = 100000000 }", "warmups.w.days: expected at most 366 days until"),
        (f"[warmups.w]\ndays = {[25] * 367}", "warmups.w.days: expected at most 366 days, got 367"),
        ('[lanes]\n"provider:gmail@1" = 1', 'lanes."provider:gmail@1": no source lies in this slot group'),
        ('[lanes]\n"smarthost:relay@1" = 1', 'lanes."smarthost:relay@1": no source lies in this slot group'),
        ('[net]\nallow = ["10.0.0.1/8"]', 'net.allow: expected networks such as "10.0.0.0/8"'),
        ('[dns]\nnameservers = ["ns1.example"]', "dns.nameservers: expected an IP address"),
        ('[sender]\necho = "ftp://x"', "sender.echo: expected smtp://… or http://… or https://…"),
        (PROXIED.replace('password_file = "secrets/proxy"', ""), "sources.ip-3.password_file: belongs to the users in via"),
        (PROXIED.replace("acme@", ""), "sources.ip-3.password_file: belongs to the users in via"),
        (PROXIED.replace("acme@", "acme:x@"), "sources.ip-3.via: a password belongs into"),
        (DIRECT.replace("ordinal = 2\n", ""), "sources.ip-4.ordinal: is required"),
        (DIRECT + DIRECT.translate(ANOTHER), "sources.ip-5.ordinal: sender 2 is already that of ip-4"),
        ('[log]\nlevel = "loud"', "log.level: expected one of debug, info, warning, error"),
    ],
)  # fmt: skip
def test_one_mistake_more_is_one_problem_more(tmp_path: Path, more: str, problem: str) -> None:
    (found,) = problems(tmp_path, GOOD.replace("[kafka]\n", f"{more}\n[kafka]\n", 1))
    assert found.startswith(problem)


def test_a_tenant_may_ask_for_a_level_of_tls_that_there_is(tmp_path: Path) -> None:
    pools = 'pools = { transactional = "tx", bulk = "bulk" }'
    settings = read(tmp_path, changed(pools, f'{pools}\ntls = "verified"'))
    assert settings.tenants["acme"].tls == "verified"
    assert problems(tmp_path, changed(pools, f'{pools}\ntls = "most"'))[0].startswith(
        "tenants.acme.tls: expected one of opportunistic, encrypted, verified"
    )


def test_more_copies_in_sync_than_there_are_is_refused(tmp_path: Path) -> None:
    text = changed("slots = 16", "replication = 2\nmin_insync = 3")
    assert problems(tmp_path, text) == [
        "kafka.min_insync: expected at most kafka.replication = 2, got 3"
    ]


# -- layers


def test_what_is_shipped_can_be_changed_field_by_field(tmp_path: Path) -> None:
    text = GOOD + '[providers.gmail]\ntls = "verified"\n[limits.gmail]\nrate = "600/min"\n'
    settings = read(tmp_path, text)
    assert settings.providers["gmail"].tls == "verified"
    assert ".google.com" in settings.providers["gmail"].mx
    assert settings.limits["gmail"] == LimitRow(5, 50, Rate(600, MIN))


def limit(settings: Settings, key: str, source: str) -> Limit:
    return resolve(settings, key, source).limit()


def test_each_field_of_a_limit_comes_from_the_nearest_layer_that_says_it(tmp_path: Path) -> None:
    more = """
[limits.default]
total_rate = "9000/min"
[limits.gmail]
rate = "600/min"
connections = 20
[limits."gmail/ip-1"]
rate = "50/h"
[limits."mx1.acme.example,mx2.acme.example"]
connections = 1
[limits."smarthost:relay"]
connections = 2
"""
    settings = read(tmp_path, GOOD + more)
    total = Rate(9000, MIN)
    assert limit(settings, "gmail", "ip-2") == Limit(20, 50, Rate(600, MIN), total)
    assert limit(settings, "gmail", "ip-1") == Limit(20, 50, Rate(50, 60 * MIN), total)
    assert limit(settings, "mx1.acme.example,mx2.acme.example", "ip-1").connections == 1
    start = defaults.LIMITS["default"].start_rate
    nowhere = Limit(10, 100, None, total, start_rate=start)
    assert limit(settings, "mx.nowhere.example", "ip-1") == nowhere
    assert limit(settings, "smarthost:relay", "relay").connections == 2


def test_the_most_specific_route_wins(tmp_path: Path) -> None:
    more = """
[routes]
"*" = { to = "127.0.0.1:1" }
"*.test" = { to = ["127.0.0.1:2", "[::1]:3"], provider = "gmail" }
"*.b.test" = { to = "127.0.0.1:4" }
"A.b.test" = { to = "127.0.0.1:5" }
"""
    settings = read(tmp_path, more + GOOD)

    def port(domain: str) -> int:
        route = settings.route(domain)
        assert route is not None
        return route.to[0][1]

    assert [port(d) for d in ("x.example", "x.test", "x.y.test", "x.b.test", "b.test")] == [
        1,
        2,
        2,
        4,
        2,
    ]
    assert port("a.b.test") == 5
    assert settings.route("x.test") == Route("*.test", (("127.0.0.1", 2), ("::1", 3)), "gmail")


def test_without_routes_every_domain_is_resolved(tmp_path: Path) -> None:
    assert read(tmp_path, GOOD).route("x.example") is None


def test_unknown_outcomes_are_retried_without_a_cap_only_where_it_says_always(
    tmp_path: Path,
) -> None:
    text = GOOD + '[classes.bulk]\nunknown = { retry = "always", delay = "1s" }\n'
    classes = read(tmp_path, text).classes
    assert classes["bulk"].unknown.retry is None
    assert classes["transactional"].unknown.retry == 2


def test_every_shipped_provider_has_its_limits_and_every_limit_its_provider(
    tmp_path: Path,
) -> None:
    settings = read(tmp_path, GOOD)
    assert set(settings.limits) == {"default", *settings.providers}
    for name in settings.providers:
        found = limit(settings, name, "ip-1")
        assert found.connections > 0
        assert found.messages_per_connection > 0


@pytest.mark.parametrize(
    "name", ["gmail", "yahoo", "microsoft", "microsoft365", "apple", "comcast", "gmx", "qq"]
)
def test_the_large_providers_never_get_mail_in_the_clear(name: str) -> None:
    assert defaults.PROVIDERS[name].tls == "encrypted"


def test_kafka_is_spoken_to_in_the_clear_unless_the_settings_say_otherwise(tmp_path: Path) -> None:
    kafka = read(tmp_path, GOOD).kafka
    assert kafka.tls is None
    assert kafka.sasl is None


SASL = '[kafka.sasl]\nusername = "postyard"\npassword_file = "secrets/kafka"\n'


def test_an_empty_table_means_tls_with_the_machines_authorities(tmp_path: Path) -> None:
    assert read(tmp_path, GOOD + "[kafka.tls]\n").kafka.tls == KafkaTls()


def test_files_for_kafka_are_relative_to_the_configuration(tmp_path: Path) -> None:
    kafka = read(tmp_path, GOOD + '[kafka.tls]\nca_file = "ca.pem"\n' + SASL).kafka
    assert kafka.tls == KafkaTls(ca_file=tmp_path / "ca.pem")
    assert kafka.sasl == KafkaSasl("SCRAM-SHA-512", "postyard", tmp_path / "secrets/kafka")


def test_a_pod_has_its_own_name_in_kafka(tmp_path: Path) -> None:
    text = GOOD + SASL.replace('username = "postyard"\n', "")
    found = read(tmp_path, text, {"POSTYARD_KAFKA_USERNAME": "postyard-sender"}).kafka.sasl
    assert found is not None
    assert found.username == "postyard-sender"


@pytest.mark.parametrize(
    ("more", "line"),
    [
        (
            '[kafka.tls]\ncert_file = "c"\n',
            "kafka.tls.key_file: is required where there is a cert_file",
        ),
        (
            '[kafka.tls]\nkey_file = "c"\n',
            "kafka.tls.cert_file: is required where there is a key_file",
        ),
        ("[kafka.tls]\ncert = 1\n", "kafka.tls.cert: unknown key; did you mean cert_file?"),
        ("[kafka.sasl]\n", "kafka.sasl.username: is required, here or as POSTYARD_KAFKA_USERNAME"),
        ("[kafka.sasl]\n", "kafka.sasl.password_file: is required"),
        (
            SASL + 'mechanism = "GSSAPI"\n',
            'kafka.sasl.mechanism: expected one of SCRAM-SHA-512, SCRAM-SHA-256, PLAIN, got "GSSAPI"',
        ),
        (
            SASL + 'mechanism = "PLAIN"\n',
            "kafka.sasl.mechanism: PLAIN sends the password as it is: add [kafka.tls], or use SCRAM-SHA-512",
        ),
    ],
)
def test_a_wrong_way_to_speak_with_kafka_is_said(tmp_path: Path, more: str, line: str) -> None:
    assert line in problems(tmp_path, GOOD + more)
