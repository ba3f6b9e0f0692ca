"""Rules that every rendered pod keeps, and exceptions with their reasons: the restricted Pod Security standard, and what an SRE asks for.

https://kubernetes.io/docs/concepts/security/pod-security-standards/
"""

from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from tests.support.chart import EXAMPLES, containers, manifests, of_kind, pods

#: (rule, beginning of the pod's name) -> why.
EXCEPTIONS = {
    ("no host network", "Deployment postyard-proxy-"): "a proxy sends from its node's addresses",
    ("no host network", "StatefulSet postyard-sender-main"): "egress: hostNetwork, documented",
    ("readiness", "Job "): "a job is not asked",
    (
        "liveness differs",
        "Deployment postyard-proxy-",
    ): "whether HAProxy listens is all there is; liveness waits longer",
    ("liveness differs", "Deployment postyard-dns"): "the same for unbound",
    (
        "disruption budget",
        "Deployment postyard-proxy-",
    ): "one pod a node: its node cannot be drained without it",
    ("disruption budget", "Job "): "a job runs once",
    ("spread", "Deployment postyard-proxy-"): "tied to its node",
    ("spread", "StatefulSet postyard-sender-main"): "egress: hostNetwork has one pod a node",
    ("spread", "Job "): "one pod",
    ("network policy", "Deployment postyard-proxy-"): "policies do not apply to the host's network",
    ("grace", "Job "): "it can be killed at any moment",
    ("own account", "Job "): "before an install the account is not there",
}


def broken(name: str, template: Mapping[str, Any], found: list[dict[str, Any]]) -> Iterator[str]:
    """Name the rules that a pod breaks."""
    spec, labels = template["spec"], template["metadata"]["labels"]
    yield from broken_security(spec)
    # Services of the namespace would become variables, and POSTYARD_… are ours.
    if spec.get("enableServiceLinks") is not False:
        yield "no service links"
    if {"name": "ndots", "value": "1"} not in spec.get("dnsConfig", {}).get("options", ()):
        yield "ndots"
    if not spec.get("topologySpreadConstraints"):
        yield "spread"
    if not spec.get("terminationGracePeriodSeconds") and "dns" not in name:
        yield "grace"
    for container in containers(template):
        yield from broken_container(container, sidecar=container not in spec["containers"])
    budgets = of_kind("PodDisruptionBudget", found).values()
    if not any(selects(one["spec"]["selector"], labels) for one in budgets):
        yield "disruption budget"
    policies = of_kind("NetworkPolicy", found).values()
    if not any(selects(one["spec"]["podSelector"], labels) for one in policies):
        yield "network policy"


def broken_security(spec: Mapping[str, Any]) -> Iterator[str]:
    security = spec.get("securityContext", {})
    if spec.get("hostNetwork") or spec.get("hostPID") or spec.get("hostIPC"):
        yield "no host network"
    if any("hostPath" in volume for volume in spec.get("volumes", ())):
        yield "no host path"
    if any("persistentVolumeClaim" in volume for volume in spec.get("volumes", ())):
        yield "no disk"
    if not security.get("runAsNonRoot") or not security.get("runAsUser"):
        yield "non-root"
    if security.get("seccompProfile") != {"type": "RuntimeDefault"}:
        yield "seccomp"
    if spec.get("automountServiceAccountToken") is not False:
        yield "no token"
    if spec.get("serviceAccountName", "default") == "default":
        yield "own account"


def broken_container(container: Mapping[str, Any], *, sidecar: bool) -> Iterator[str]:
    security, resources = container.get("securityContext", {}), container.get("resources", {})
    if security.get("allowPrivilegeEscalation") is not False:
        yield "no escalation"
    if security.get("capabilities") != {"drop": ["ALL"]}:
        yield "no capabilities"
    if security.get("readOnlyRootFilesystem") is not True:
        yield "read-only root"
    if not {"cpu", "memory"} <= set(resources.get("requests", {})):
        yield "requests"
    # CPU has no limit on purpose: throttling stops a heartbeat, and with it a source.
    if set(resources.get("limits", {})) != {"memory"}:
        yield "memory limit, and none of CPU"
    if any("subPath" in mount for mount in container.get("volumeMounts", ())):
        yield "no subPath"
    if container["image"].endswith(":latest") or ":" not in container["image"]:
        yield "a version"
    if not sidecar:
        ready, alive = container.get("readinessProbe"), container.get("livenessProbe")
        if ready is None or alive is None:
            yield "readiness"
        elif ready.get("httpGet", 1) == alive.get("httpGet", 1) or "httpGet" not in alive:
            yield "liveness differs"


def selects(selector: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    wanted: Mapping[str, str] = selector.get("matchLabels", {})
    return wanted.items() <= labels.items()


@pytest.mark.parametrize("name", EXAMPLES)
def test_every_pod_keeps_the_rules_or_has_a_reason(name: str) -> None:
    found = manifests(name)
    seen = [(pod, rule) for pod, template in pods(found) for rule in broken(pod, template, found)]
    unexcused = [
        (pod, rule)
        for pod, rule in seen
        if not any(rule == r and pod.startswith(p) for r, p in EXCEPTIONS)
    ]
    assert not unexcused
    if name != "smallest":
        sender = "StatefulSet postyard-sender-main"
        assert not {(sender, "no host network"), (sender, "spread")} & set(seen)


def test_every_exception_is_needed() -> None:
    needed = set()
    for name in EXAMPLES:
        found = manifests(name)
        for pod, template in pods(found):
            rules = set(broken(pod, template, found))
            needed |= {(r, p) for r, p in EXCEPTIONS if r in rules and pod.startswith(p)}
    assert needed == set(EXCEPTIONS)


@pytest.mark.parametrize("name", EXAMPLES)
def test_no_selector_catches_another_roles_pods(name: str) -> None:
    found = manifests(name)
    for pod, template in pods(found):
        mine = [
            one["metadata"]["name"]
            for one in of_kind("PodDisruptionBudget", found).values()
            if selects(one["spec"]["selector"], template["metadata"]["labels"])
        ]
        assert len(mine) <= 1, pod


@pytest.mark.parametrize("name", EXAMPLES)
def test_no_policy_lets_anybody_reach_the_metadata_service(name: str) -> None:
    for policy in of_kind("NetworkPolicy", manifests(name)).values():
        for rule in policy["spec"].get("egress", ()):
            ports = {port["port"] for port in rule.get("ports", ())}
            for peer in rule.get("to", ()):
                block = peer.get("ipBlock", {})
                if block.get("cidr") == "0.0.0.0/0":
                    assert "169.254.0.0/16" in block["except"], policy["metadata"]["name"]
            # A rule for any address is for named ports, none of which a metadata service has.
            assert rule.get("to") or (ports and not ports & {80, 443}), policy["metadata"]["name"]


@pytest.mark.parametrize("name", EXAMPLES)
def test_only_senders_and_the_job_see_keys_and_passwords_of_mail(name: str) -> None:
    for pod, template in pods(manifests(name)):
        secrets = [v["name"] for v in template["spec"]["volumes"] if "secret" in v]
        if any(secret.startswith("secret-") for secret in secrets):
            assert "sender" in pod or pod.startswith("Job"), pod
