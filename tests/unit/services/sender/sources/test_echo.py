import pytest

from services.sender.sources.echo import Unobserved, address_in


@pytest.mark.parametrize(
    ("text", "family", "address"),
    [
        ("198.51.100.7\n", "v4", "198.51.100.7"),
        ("echo.example ESMTP, you are [198.51.100.7].", "v4", "198.51.100.7"),
        ("hello ::ffff:198.51.100.7", "v4", "198.51.100.7"),
        ('{"ip":"2001:0DB8:0::7","at":"12:30:45"}', "v6", "2001:db8::7"),
        ("[IPv6:2001:db8::7]", "v6", "2001:db8::7"),
        ("198.51.100.7 is 198.51.100.7 and 2001:db8::7", "v4", "198.51.100.7"),
    ],
)
def test_an_address_is_found_in_text(text: str, family: str, address: str) -> None:
    assert address_in(text, family) == address


@pytest.mark.parametrize(
    ("text", "family"),
    [
        ("", "v4"),
        ("version 1.2.3", "v4"),
        ("198.51.100.777", "v4"),
        ("198.51.100.7 by way of 198.51.100.8", "v4"),
        ("198.51.100.7", "v6"),
    ],
)
def test_text_without_just_one_address_of_the_family_says_nothing(text: str, family: str) -> None:
    with pytest.raises(Unobserved):
        address_in(text, family)
