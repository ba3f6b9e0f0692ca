"""What is written is read again; what is not ours is no memory."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.cli.cluster.properties import Ports, read_ports, server_properties

ports = st.integers(1, 65535)


@given(broker=ports, controller=ports)
def test_the_ports_are_found_again(
    tmp_path_factory: pytest.TempPathFactory, broker: int, controller: int
) -> None:
    path = tmp_path_factory.getbasetemp() / "server.properties"
    path.write_text(server_properties(Ports(broker, controller), data="data"))
    assert read_ports(path) == Ports(broker, controller)


@pytest.mark.parametrize("text", ["", "listeners", "listeners=PLAINTEXT://a:b", "a=b\n", "# a\n"])
def test_another_file_has_no_ports(tmp_path: Path, text: str) -> None:
    path = tmp_path / "server.properties"
    path.write_text(text)
    assert read_ports(path) is None


def test_no_file_has_no_ports(tmp_path: Path) -> None:
    assert read_ports(tmp_path / "server.properties") is None
