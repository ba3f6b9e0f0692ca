"""How a destination takes a source's mail, in numbers that fade: a part of the pair's state, see services.scheduler.policy.health."""

import msgspec


class Health(msgspec.Struct, gc=False, kw_only=True, omit_defaults=True):
    """Counts of answers as they are at ``at_ns``, in 65,536ths of an answer; counted in place, since there is one of each answer."""

    at_ns: int
    answers: int = 0
    delivered: int = 0
    deferred: int = 0
    blocked: int = 0
    complained: int = 0
    #: Messages a day that it did when last there was enough to tell, and when.
    did: int = 0
    did_ns: int = 0
