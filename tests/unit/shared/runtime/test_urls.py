import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.runtime.settings import Proxy
from shared.runtime.urls import echo, proxies, proxy
from shared.runtime.workings import Echo


@pytest.mark.parametrize(
    "text",
    [
        "socks5://10.0.0.5:1080",
        "socks5://acme@proxy.example:1081",
        "socks5://acme@[2001:db8::5]:1081",
        "proxy-v2://10.0.0.6:2525",
    ],
)
def test_a_proxy_is_shown_as_it_was_written(text: str) -> None:
    assert str(proxy(text)) == text


def test_a_user_may_be_written_with_percent_signs() -> None:
    assert proxy("socks5://a%40b@10.0.0.5:1080") == Proxy("socks5", "10.0.0.5", 1080, "a@b")


def test_a_password_in_a_url_is_refused_and_not_repeated() -> None:
    with pytest.raises(ValueError, match="password_file") as caught:
        proxy("socks5://acme:hunter2@10.0.0.5:1080")
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        "http://10.0.0.5:1080",
        "socks5://10.0.0.5",
        "socks5://:1080",
        "socks5://@10.0.0.5:1080",
        "socks5://10.0.0.5:1080/x",
        "socks5://[::1",
        "proxy-v2://user@10.0.0.6:2525",
        "10.0.0.5:1080",
    ],
)
def test_what_names_no_proxy_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"expected|knows no user"):
        proxy(text)


def test_the_same_proxy_twice_is_no_second_way() -> None:
    with pytest.raises(ValueError, match="twice"):
        proxies(["socks5://10.0.0.5:1080", "socks5://10.0.0.5:1080"])
    with pytest.raises(ValueError, match="at least one"):
        proxies([])


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("smtp://echo.example", Echo("smtp", "echo.example", 25)),
        ("smtp://192.0.2.5:2525", Echo("smtp", "192.0.2.5", 2525)),
        ("http://echo.example/ip?v=4", Echo("http", "echo.example", 80, "/ip?v=4")),
        ("https://[2001:db8::5]:8443", Echo("https", "2001:db8::5", 8443)),
    ],
)
def test_an_echo_has_the_port_of_its_scheme_unless_it_says_another(text: str, found: Echo) -> None:
    assert echo(text) == found


@given(st.text() | st.integers() | st.from_regex(r"(smtp|http|socks5)://[^\n]*", fullmatch=True))
def test_a_url_names_a_host_and_a_port_or_is_a_value_error(value: object) -> None:
    for read in (proxy, echo):
        try:
            found = read(value)
        except ValueError:
            continue
        assert found.host
        assert 1 <= found.port <= 65535
