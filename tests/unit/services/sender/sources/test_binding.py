from services.sender.sources.binding import can_bind


def test_an_address_of_this_machine_can_be_bound() -> None:
    assert can_bind("127.0.0.1") is None


def test_an_address_of_another_machine_cannot_and_is_named() -> None:
    trouble = can_bind("192.0.2.1")
    assert trouble is not None
    assert trouble.startswith("192.0.2.1: ")
