"""Reads the configuration: a TOML file, or a directory of them, checked as a whole.

Files become one table, the table becomes sections, the sections must fit together. All problems come at once, each with its path, what was
expected and what was found. What differs for each pod comes from the environment (``POSTYARD_…``); secrets are paths, which nobody opens
here: see ``shared.runtime.credentials``.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

from shared.runtime import files, machinery, parties
from shared.runtime.relations import relate
from shared.runtime.settings import Settings
from shared.runtime.table import Problems, Table


class SettingsError(Exception):
    """The configuration cannot be used; ``problems`` lists every reason, each with its path."""

    def __init__(self, problems: Sequence[str]) -> None:
        """Keep all of them."""
        super().__init__("\n".join(problems))
        self.problems = list(problems)


def load(path: Path, env: Mapping[str, str]) -> Settings:
    """Read and check the configuration at ``path``; raises SettingsError."""
    return _load(files.read(path), env, folder(path), str(path))


def load_texts(texts: Mapping[str, str], env: Mapping[str, str], base: Path) -> Settings:
    """Check the configuration whose files hold ``texts`` (name -> text); relative paths start from ``base``; raises SettingsError."""
    return _load(files.merged(texts), env, base, ", ".join(sorted(texts)))


def folder(path: Path) -> Path:
    """Name the folder that relative paths in the configuration at ``path`` start from."""
    return path if path.is_dir() else path.parent


def _load(merged: files.Merged, env: Mapping[str, str], base: Path, where: str) -> Settings:
    problems = Problems()
    settings = _settings(Table("", merged.raw, problems), env, base)
    relate(settings, problems)
    lines = [*merged.problems, *problems.lines()] if merged.raw else merged.problems
    if not merged.raw and not lines:
        lines = [f"{where}: there is nothing in it"]
    if lines:
        raise SettingsError(lines)
    return settings


def _settings(top: Table, env: Mapping[str, str], base: Path) -> Settings:
    settings = Settings(
        kafka=machinery.kafka(top, env, base),
        sources=parties.sources(top, base),
        warmups=parties.warmups(top),
        pools=parties.pools(top),
        tenants=parties.tenants(top, base),
        classes=parties.classes(top),
        providers=parties.providers(top),
        limits=parties.limits(top),
        routes=parties.routes(top),
        lanes=machinery.lanes(top),
        timing=machinery.timing(top),
        backoff=machinery.backoff(top),
        dns=machinery.dns(top),
        net=machinery.net(top),
        http=machinery.http(top, env),
        ingest=machinery.ingest(top),
        scheduler=machinery.scheduler(top),
        sender=machinery.sender(top, env),
        log=machinery.log(top),
        configuration=machinery.configuration(top),
    )
    top.done()
    return settings
