"""The demonstration's addresses are promises that the receiving servers keep, and its records are what the documentation says."""

from collections import Counter

from services.cli.demo.mail import TENANTS, mails
from services.cli.demo.receiver.manners import Doorman, Manners
from shared.records.codec import Unreadable, split
from shared.records.submission import SUBMISSION

ALL = list(mails(2000))


def test_two_thousand_messages_are_of_both_tenants_both_classes_and_every_end() -> None:
    assert len({mail.id for mail in ALL}) == len({mail.recipient for mail in ALL}) == 2000
    assert {(mail.tenant, mail.class_) for mail in ALL} == {
        (tenant, class_) for tenant in TENANTS for class_ in ("transactional", "bulk")
    }
    assert Counter(mail.end for mail in ALL) == {"delivered": 1850, "bounced": 100, "expired": 50}


def test_every_value_is_a_submission_as_fields_or_as_a_message() -> None:
    for mail in ALL[:50]:
        submission = SUBMISSION.decode(mail.value())
        assert not isinstance(submission, Unreadable), submission
        assert (submission.id, submission.to) == (mail.id, (mail.recipient,))
        assert (submission.message is None) == bool(split(mail.value())[1])


def test_each_end_is_what_the_receiving_server_makes_of_the_address() -> None:
    doorman = Doorman(Manners(greylist_s=4))
    for mail in ALL[:200]:
        tries = [
            doorman.at_rcpt("ip", "a@b", mail.recipient, at * 5_000_000_000) for at in range(4)
        ]
        last = tries[-1] or doorman.after_dot(mail.recipient).reply
        assert {"2": "delivered", "5": "bounced", "4": "expired"}[last[0]] == mail.end
