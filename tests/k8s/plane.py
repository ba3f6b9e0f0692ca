"""A Kubernetes control plane on loopback: etcd, API server, controller manager and scheduler, each a process, on free ports.

Pods are admitted, made, scheduled, counted, evicted and collected by the real controllers. There is no node: tests/k8s/node.py is one.
"""

import json
import secrets
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Self

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from tests.k8s.api import Api
from tests.support.chart import tool
from tests.support.stack import free_port

_READY_S: Final = 90
#: Who they are to the API server, and what they may do there.
_USERS: Final = {
    "admin": ("admin", "system:masters"),
    "manager": ("system:kube-controller-manager", ""),
    "scheduler": ("system:kube-scheduler", ""),
}


@dataclass(slots=True)
class Plane:
    """``with Plane(program, directory) as plane: …``."""

    program: Path
    directory: Path
    _tokens: dict[str, str] = field(default_factory=dict)
    _running: list[subprocess.Popen[bytes]] = field(default_factory=list)
    _port: int = field(default_factory=free_port)
    #: A client that may do everything.
    api: Api = field(init=False)

    def __enter__(self) -> Self:
        self.directory.mkdir(parents=True, exist_ok=True)
        try:
            self._start()
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._stop()

    @property
    def kubeconfig(self) -> Path:
        return self.directory / "admin.kubeconfig"

    def run(self, *words: str | Path, stdin: str = "", seconds: float = 300) -> subprocess.CompletedProcess[str]:  # fmt: skip
        """Run helm or kubectl."""
        return tool(
            *words,
            stdin=stdin,
            seconds=seconds,
            # helm keeps what it fetched in the home directory, and plug-ins.
            env={
                "KUBECONFIG": str(self.kubeconfig),
                "HOME": str(self.directory),
                "PATH": "/usr/bin:/bin",
            },
        )

    # -- its processes

    def _start(self) -> None:
        self._write_identities()
        client, peer = free_port(), free_port()
        etcd = f"http://127.0.0.1:{client}"
        self._launch(
            "etcd",
            f"--data-dir={self.directory / 'etcd'}",
            f"--listen-client-urls={etcd}",
            f"--advertise-client-urls={etcd}",
            f"--listen-peer-urls=http://127.0.0.1:{peer}",
            f"--initial-advertise-peer-urls=http://127.0.0.1:{peer}",
            f"--initial-cluster=default=http://127.0.0.1:{peer}",
            # Nothing has to outlive this machine's next reboot.
            "--unsafe-no-fsync",
            "--log-level=error",
        )
        key = self.directory / "accounts.key"
        self._launch(
            "kube-apiserver",
            f"--etcd-servers={etcd}",
            "--bind-address=127.0.0.1",
            "--advertise-address=127.0.0.1",
            "--endpoint-reconciler-type=none",
            f"--secure-port={self._port}",
            f"--cert-dir={self._certificate.parent}",
            f"--token-auth-file={self.directory / 'tokens.csv'}",
            "--authorization-mode=RBAC",
            "--service-cluster-ip-range=10.96.0.0/16",
            "--service-account-issuer=https://kubernetes.default.svc",
            f"--service-account-key-file={key}",
            f"--service-account-signing-key-file={key}",
            "--profiling=false",
        )
        # Written before the server listens.
        self._until(self._certificate.is_file)
        self.api = Api("127.0.0.1", self._port, self._certificate, self._tokens["admin"])
        self._until(self.api.healthy)
        self._launch(
            "kube-controller-manager",
            f"--kubeconfig={self._kubeconfig('manager')}",
            "--leader-elect=false",
            "--use-service-account-credentials=true",
            f"--service-account-private-key-file={key}",
            f"--root-ca-file={self._certificate}",
            "--bind-address=127.0.0.1",
            f"--secure-port={free_port()}",
            f"--cert-dir={self.directory / 'manager'}",
            # Its controllers start in three seconds instead of ten.
            "--kube-api-qps=500",
            "--kube-api-burst=1000",
            # An autoscaler that need not be waited for.
            "--horizontal-pod-autoscaler-sync-period=2s",
            "--horizontal-pod-autoscaler-downscale-stabilization=5s",
        )
        self._launch(
            "kube-scheduler",
            f"--kubeconfig={self._kubeconfig('scheduler')}",
            "--leader-elect=false",
            "--bind-address=127.0.0.1",
            f"--secure-port={free_port()}",
            f"--cert-dir={self.directory / 'scheduler'}",
        )
        self._kubeconfig("admin")
        # Whoever makes a pod before that is refused.
        account = "/api/v1/namespaces/default/serviceaccounts/default"
        self._until(lambda: self.api.get(account) is not None)

    @property
    def _certificate(self) -> Path:
        """The API server's own, which it has signed itself."""
        return self.directory / "apiserver" / "apiserver.crt"

    def _write_identities(self) -> None:
        key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        pem = key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.TraditionalOpenSSL,
            serialization.NoEncryption(),
        )
        (self.directory / "accounts.key").write_bytes(pem)
        self._tokens = {who: secrets.token_hex(16) for who in _USERS}
        lines = [
            f'{self._tokens[who]},{user},{who},"{group}"' for who, (user, group) in _USERS.items()
        ]
        (self.directory / "tokens.csv").write_text("\n".join(lines) + "\n")

    def _kubeconfig(self, who: str) -> Path:
        server = {"server": f"https://127.0.0.1:{self._port}", "certificate-authority": str(self._certificate)}  # fmt: skip
        config: dict[str, Any] = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "here", "cluster": server}],
            "users": [{"name": who, "user": {"token": self._tokens[who]}}],
            "contexts": [{"name": who, "context": {"cluster": "here", "user": who}}],
            "current-context": who,
        }
        path = self.directory / f"{who}.kubeconfig"
        path.write_text(json.dumps(config))
        path.chmod(0o600)
        return path

    def _launch(self, component: str, *flags: str) -> None:
        with (self.directory / f"{component}.log").open("wb") as log:
            self._running.append(
                subprocess.Popen([self.program, component, *flags], stdout=log, stderr=log)
            )

    def _until(self, so: Callable[[], bool]) -> None:
        end = time.monotonic() + _READY_S
        while not so():
            ended = [one for one in self._running if one.poll() is not None]
            assert not ended, (
                f"{ended[0].args!r}: {ended[0].returncode}; its log is in {self.directory}"
            )
            assert time.monotonic() < end, (
                f"not there after {_READY_S} s; logs are in {self.directory}"
            )
            time.sleep(0.05)

    def _stop(self) -> None:
        if hasattr(self, "api"):
            self.api.close()
        # Nobody needs what they would save.
        for one in self._running:
            one.kill()
        for one in self._running:
            one.wait(10)
