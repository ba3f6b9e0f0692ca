"""What the policy hears in a simulation is what the sender would make of the same words."""

import pytest

from services.scheduler.simulation import answers
from services.scheduler.simulation.models import MODELS
from services.sender.smtp.classify import Verdict, of_loss, of_reply
from services.sender.smtp.reply import of_text


@pytest.mark.parametrize("name", sorted(answers.ALL))
def test_each_answer_is_classified_as_the_row_says(name: str) -> None:
    answer = answers.ALL[name]
    if answer.reply is None:
        found: Verdict = of_loss("connect")
    else:
        said = of_text(answer.reply.code, f"{answer.reply.enhanced} {answer.reply.text}".strip())
        assert (said.enhanced, said.text) == (answer.reply.enhanced, answer.reply.text)
        found = of_reply(answer.reply.stage, said)
    assert (found.kind, found.category, found.scope) == (
        answer.result,
        answer.category,
        answer.scope,
    )


def test_every_answer_of_a_model_is_among_those_that_are_classified() -> None:
    used = [model.crowded for model in MODELS.values()]
    used += [quota.refusal for model in MODELS.values() for quota in model.quotas]
    assert all(answer in answers.ALL.values() for answer in used)
