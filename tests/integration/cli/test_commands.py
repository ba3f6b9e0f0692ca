"""The commands as an operator types them, against a real broker."""

import asyncio
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner, Result

from services.cli.__main__ import postyard
from services.cli.session import append_control, read_control, settings_of
from shared.kafka.cluster import Cluster
from shared.protocol.control import ControlView
from shared.records.answers import AGES, QueueAnswer, Row
from shared.records.control import Answering, Control
from shared.records.lanemap import propose
from shared.runtime.settings import Settings

CONFIG = """
[kafka]
bootstrap = "{kafka}"
prefix = "{prefix}"
partitions = {partitions}
slots = 4
[sources.ip-1]
slot = 0
kind = "bind"
address = "127.0.0.1"
ehlo = "m1.example.com"
warmup = "none"
[pools.all]
sources = {{ ip-1 = 1 }}
[tenants.acme]
domains = ["acme.example"]
pools = {{ transactional = "all", bulk = "all" }}
unsigned = true
"""


class Operator:
    """Types commands, with a configuration file of their own."""

    def __init__(self, folder: Path, kafka: str, prefix: str) -> None:
        self.file, self._kafka, self._prefix = folder / "postyard.toml", kafka, prefix
        self.write()

    def write(self, more: str = "", partitions: int = 2) -> None:
        text = CONFIG.format(kafka=self._kafka, prefix=self._prefix, partitions=partitions)
        self.file.write_text(text + more)

    def types(self, *words: str) -> Result:
        return CliRunner(env={"POSTYARD_CONFIG": str(self.file)}).invoke(postyard, words)

    @property
    def settings(self) -> Settings:
        return settings_of(self.file)

    def control(self) -> ControlView:
        async def read() -> ControlView:
            cluster = Cluster(self._kafka, client_id="test")
            try:
                return await read_control(cluster, self.settings)
            finally:
                await cluster.close()

        return asyncio.run(read())

    def append(self, record: Control) -> None:
        async def append() -> None:
            cluster = Cluster(self._kafka, client_id="test")
            try:
                await append_control(cluster, self.settings, record)
            finally:
                await cluster.close()

        asyncio.run(append())


@pytest.fixture
def operator(tmp_path: Path, kafka: str, prefix: str) -> Operator:
    return Operator(tmp_path, kafka, prefix)


@pytest.fixture
def ready(operator: Operator) -> Operator:
    assert operator.types("topics", "apply").exit_code == 0
    return operator


def test_topics_are_created_once_and_then_as_declared(operator: Operator, prefix: str) -> None:
    missing = operator.types("topics", "check")
    assert missing.exit_code == 78
    assert f"{prefix}mail.control: there is no such topic; run `postyard topics apply`" in (
        missing.stderr
    )
    first = operator.types("topics", "apply")
    assert f"created {prefix}mail.control" in first.stdout
    for words in (("topics", "apply"), ("topics", "check")):
        again = operator.types(*words)
        assert (again.exit_code, again.stdout) == (0, "all topics are as declared\n")


def test_another_partition_count_is_reported_and_never_changed(ready: Operator) -> None:
    ready.write(partitions=4)
    for words in (("topics", "check"), ("topics", "apply")):
        found = ready.types(*words)
        assert found.exit_code == 78
        assert "has 2 partitions, 4 are declared" in found.stderr


def test_retention_that_differs_is_set_right(ready: Operator) -> None:
    ready.write('[ingest]\nmax_lifetime = "6d"\n')
    wrong = ready.types("topics", "check")
    assert wrong.exit_code == 78
    assert "mail.bodies: retention.ms is 777600000, 691200000 is declared" in wrong.stderr
    assert "retention.ms" in ready.types("topics", "apply").stdout
    assert ready.types("topics", "check").exit_code == 0


def test_the_lane_map_is_published_once_and_grows_without_moving(ready: Operator) -> None:
    assert "lane map version 1 is in force; new: provider:apple" in (
        ready.types("config", "apply").stdout
    )
    before = ready.control()
    assert "nothing to do" in ready.types("config", "apply", str(ready.file)).stdout
    assert ready.control().position == before.position
    ready.write('[providers.acme-mx]\nmx = [".mx.acme.example"]\n')
    grown = ready.types("config", "apply")
    first, second = grown.stdout.splitlines()
    assert first == "lane map version 2 is in force; new: provider:acme-mx"
    assert second.startswith("configuration ")
    after = ready.control().lane_map
    assert before.lane_map is not None
    assert after is not None
    assert before.lane_map.lanes.items() < after.lanes.items()


def test_a_map_of_somebody_else_is_grown_and_not_replaced(ready: Operator) -> None:
    ready.append(propose(7, 2, ["gmail", "theirs"], []))
    assert "lane map version 8 is in force" in ready.types("config", "apply").stdout
    lanes = ready.control().lane_map
    assert lanes is not None
    assert "provider:theirs" in lanes.lanes


def test_a_map_for_other_partitions_is_refused(ready: Operator) -> None:
    ready.append(propose(1, 3, ["gmail"], []))
    refused = ready.types("config", "apply")
    assert refused.exit_code == 78
    assert "set kafka.partitions = 3" in refused.stderr


def test_a_pause_holds_until_it_is_resumed_by_the_same_names(ready: Operator) -> None:
    paused = ready.types(
        "pause", "--tenant", "acme", "--provider", "gmail",
        "--reason", "4.7.28 since ten", "--author", "ada", "--expires", "2h",
    )  # fmt: skip
    assert paused.exit_code == 0, paused.output
    ready.types(
        "pause", "--source", "ip-1", "--reason", "moving", "--author", "bob", "--until-resumed"
    )
    ready.types("pause", "--tag", "sale", "--reason", "by default it ends", "--author", "bob")
    listed = ready.types("directives").stdout.splitlines()
    assert listed[0].startswith("pause tenant=acme,provider=gmail, until 2")
    assert ", by ada: 4.7.28 since ten [pause-" in listed[0]
    assert listed[1].startswith("pause source=ip-1, until resumed, by bob: moving [")
    assert listed[2].startswith("pause tag=sale, until 2")
    (order, *_) = ready.control().standing(1)
    assert (order.author, order.tenant, order.provider) == ("ada", "acme", "gmail")
    again = ready.types("pause", "--tag", "sale", "--reason", "anew", "--author", "eve")
    assert again.exit_code == 0
    assert len(ready.control().standing(1)) == 3, "it takes the place of the one before"
    wrong = ready.types("resume", "--tenant", "acme", "--reason", "done", "--author", "ada")
    assert wrong.exit_code == 1
    assert (
        "tenant=acme: nothing to resume; what stands:\npause tenant=acme,provider=gmail"
        in wrong.stderr
    )
    right = ready.types(
        "resume", "--tenant", "acme", "--provider", "gmail", "--reason", "done", "--author", "ada"
    )
    assert right.exit_code == 0, right.output
    id_ = ready.control().standing(1)[-1].id
    by_id = ready.types("resume", "--id", id_, "--reason", "done", "--author", "ada")
    assert by_id.stdout == "resumed paused tag=sale\n"
    (last,) = ready.types("directives").stdout.splitlines()
    assert "source=ip-1" in last


def test_what_is_done_once_is_about_what_was_accepted_before(ready: Operator) -> None:
    done = ready.types(
        "cancel", "--tag", "sale", "--older-than", "2h", "--domain", "Bücher.example",
        "--class", "bulk", "--reason", "wrong link", "--author", "ada",
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    routed = ready.types(
        "reroute", "--delivery", "b1-2-0", "--pool", "all", "--reason", "x", "--author", "ada"
    )
    assert routed.exit_code == 0, routed.output
    cancel, reroute = (each.order for each in ready.control().in_force(1))
    assert (cancel.tag, cancel.class_, cancel.domain) == ("sale", "bulk", "xn--bcher-kva.example")
    assert cancel.accepted_before_ns is not None
    assert cancel.expires_ns is not None
    assert (reroute.delivery, reroute.pool) == ("b1-2-0", "all")
    assert ready.control().standing(1) == []


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("pause", "--provider", "gmial", "--reason", "x"), "no such provider: gmial; did you mean gmail?"),
        (("pause", "--reason", "x"), "name at least one of"),
        (("pause", "--tenant", "acme"), "Missing option '--reason'"),
        (("pause", "--tenant", "acme", "--reason", "x", "--expires", "2001-01-01T00:00:00Z"), "is not in the future"),
        (("resume", "--reason", "x"), "name at least one of"),
        (("resume", "--id", "pause-1", "--tag", "a", "--reason", "x"), "either --id or what the order names"),
        (("cancel", "--reason", "x"), "name at least one of"),
        (("cancel", "--tag", "a", "--older-than", "soon", "--reason", "x"), "expected a duration"),
        (("cancel", "--class", "fast", "--reason", "x"), "'transactional', 'bulk'"),
        (("reroute", "--tenant", "acme", "--reason", "x"), "Missing option '--pool'"),
        (("reroute", "--tenant", "acme", "--pool", "al", "--reason", "x"), "no such pool: al; did you mean all?"),
        (("pause", "--source", "ip-1", "--tag", "a", "--reason", "x"), "a source is paused for all of its mail"),
        (("pause", "--tag", "a", "--until-resumed", "--expires", "2h", "--reason", "x"), "either --expires or"),
    ],
)  # fmt: skip
def test_an_order_that_names_nothing_real_is_wrong_usage(
    ready: Operator, words: tuple[str, ...], said: str
) -> None:
    found = ready.types(*words, "--author", "ada")
    assert found.exit_code == 2
    assert said in found.stderr


#: What selects mail -> the words, and what the order says of it.
SELECTING: dict[str, tuple[str, object]] = {
    "tenant": ("acme", "acme"),
    "stream": ("news", "news"),
    "tag": ("sale", "sale"),
    "class": ("bulk", "bulk"),
    "provider": ("gmail", "gmail"),
    "domain": ("Bücher.Example", "xn--bcher-kva.example"),
    "source": ("ip-1", "ip-1"),
    "older-than": ("2026-01-02T00:00:00Z", 1_767_312_000 * 10**9),
    "delivery": ("b3-1207-0", "b3-1207-0"),
}
ORDERING: dict[str, tuple[str, ...]] = {
    "pause": (),
    "cancel": (),
    "expire": (),
    "rush": (),
    "reroute": ("--pool", "all"),
    "slow": ("--to", "25"),
    "limit": ("--rate", "50/h"),
}
#: Rates count for a destination, a source, or a tenant.
LIMITED = ("tenant", "provider", "source")
FIELDS = {"class": "class_", "older-than": "accepted_before_ns"}


@pytest.mark.parametrize("action", ORDERING)
def test_each_order_takes_each_selector_or_says_of_the_field_why_not(
    ready: Operator, action: str
) -> None:
    ready.write('[limits."tenant:acme"]\ntotal_rate = "600/h"\n')
    for option, (word, said) in SELECTING.items():
        found = ready.types(
            action, f"--{option}", word, *ORDERING[action], "--reason", "why", "--author", "ada"
        )
        if action in ("slow", "limit") and option not in LIMITED:
            assert found.exit_code == 2, (action, option)
            assert f"--{option}: " in found.stderr, (action, option)
            assert "name " in found.stderr, "what to do instead"
            continue
        assert found.exit_code == 0, (action, option, found.stderr)
        orders = [each.order for each in ready.control().directives.values()]
        field = FIELDS.get(option, option)
        (order,) = [each for each in orders if getattr(each, field) == said]
        assert order.action == action
        assert order.selector.named == {field}


def test_what_several_fields_cannot_mean_together_is_said_of_one(ready: Operator) -> None:
    for words, said in (
        (("pause", "--source", "ip-1", "--tenant", "acme"), "--source: a source is paused for all"),
        (("slow", "--to", "5", "--tenant", "acme"), "--tenant: acme has no rate of which a part"),
        (
            ("slow", "--to", "5", "--tenant", "acme", "--source", "ip-1"),
            "--source: a tenant's mail",
        ),
        (
            ("limit", "--rate", "5/h", "--tenant", "acme", "--source", "ip-1"),
            "--tenant: a tenant's",
        ),
        (
            ("limit", "--bytes", "1MiB/h", "--tenant", "acme"),
            "--tenant: a tenant's mail is counted",
        ),
        (("limit", "--bytes", "1MiB/s", "--provider", "gmail"), "expected bytes per min, h or d"),
        (("limit", "--provider", "gmail"), "--rate, --connections, --bytes"),
    ):
        found = ready.types(*words, "--reason", "why", "--author", "ada")
        assert (found.exit_code, said in found.stderr) == (2, True), (words, found.stderr)


def test_a_good_configuration_is_summed_up(operator: Operator) -> None:
    found = operator.types("config", "check", str(operator.file))
    assert found.exit_code == 0
    assert "source     ip-1: slot 0, bind 127.0.0.1" in found.stdout
    assert "tenant     acme: acme.example; unsigned where no key fits" in found.stdout


def test_a_bad_configuration_is_told_all_of_it(operator: Operator) -> None:
    operator.write('[limits.gmail]\nrate = "fast"\n[log]\nlevl = "info"\n')
    found = operator.types("config", "check", str(operator.file))
    assert found.exit_code == 78
    assert found.stderr.splitlines() == [
        'limits.gmail.rate: expected a rate such as "600/min", got "fast"',
        "log.levl: unknown key; did you mean level?",
    ]


def test_a_key_that_is_not_there_is_found_by_the_check_alone(operator: Operator) -> None:
    text = operator.file.read_text()
    key = 'dkim = [{ domain = "acme.example", selector = "s1", key_file = "gone.pem" }]\n'
    operator.file.write_text(text + key)
    assert operator.types("topics", "apply").exit_code == 0
    found = operator.types("config", "check", str(operator.file))
    assert found.exit_code == 78
    gone = operator.file.parent / "gone.pem"
    assert found.stderr == (f"tenants.acme.dkim[0].key_file: {gone}: No such file or directory\n")


def test_without_topics_every_order_says_what_to_do(operator: Operator) -> None:
    for words in (("config", "apply"), ("directives",)):
        found = operator.types(*words)
        assert found.exit_code == 78
        assert found.stderr.endswith("there is no such topic; run `postyard topics apply`\n")


def test_a_kafka_that_is_not_there_is_unavailable(tmp_path: Path) -> None:
    operator = Operator(tmp_path, "127.0.0.1:1", "none.")
    found = operator.types("topics", "check")
    assert found.exit_code == 69
    assert found.stderr.startswith("Kafka at 127.0.0.1:1 does not answer")


class OldScheduler(BaseHTTPRequestHandler):
    """Answers what waits, and knows of no other question."""

    def do_GET(self) -> None:
        known = self.path.startswith("/queue")
        row = Row(names=("gmail",), ages=(3, 4, *[0] * (len(AGES) - 1)))
        answer = QueueAnswer(partitions=(0, 1), by=("provider",), rows=(row,))
        self.send_response(200 if known else 404)
        self.end_headers()
        self.wfile.write(msgspec.json.encode(answer) if known else b"no such page")

    def log_message(self, *_: object) -> None:
        pass


def test_what_waits_is_told_although_schedulers_do_not_know_what_was_learnt(
    ready: Operator,
) -> None:
    """In an upgrade the commands are of another version than the schedulers."""
    with ThreadingHTTPServer(("127.0.0.1", 0), OldScheduler) as server:
        answering = threading.Thread(target=server.serve_forever)
        answering.start()
        try:
            url = f"http://127.0.0.1:{server.server_port}"
            ready.append(Answering(process="s#1", pod="s", url=url, partitions=(0, 1)))
            found = ready.types("queue")
        finally:
            server.shutdown()
            answering.join()
    assert found.exit_code == 0, found.output
    assert [line.split()[:2] for line in found.stdout.splitlines()[1:]] == [
        ["TOTAL", "7"],
        ["gmail", "7"],
    ]
    assert "/learnt: 404 no such page" in found.stderr
    assert "nobody answers for partitions 0, 1" in found.stderr
