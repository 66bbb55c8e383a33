"""What every engine does about a rejected credential: tell the broker, log in once more, and then say why not."""

from __future__ import annotations

from collections.abc import Callable

from proxy.engines.entry import enter
from proxy.errors import Refused
from proxy.model import Location, SealedGrant
from proxy.script import Connect, RequestGrant, Script, connect
from tests.support.playbook import Playbook
from tollbridge.model import Endpoint, TlsFacts
from tollbridge.reasons import Reason

WHERE = Location(database="orders", endpoint=Endpoint(host="db.example", port=1), tls=TlsFacts())


class Rejected(Refused):
    """How the toy server says no to a credential."""


def grant(number: int) -> SealedGrant:
    """What the broker allows, with a credential of that number."""
    return SealedGrant(
        location=WHERE, decision_id=f"d-{number}", credential_id=f"c-{number}", user=f"user-{number}", reused=False
    )


def asked(rejected: str = "") -> RequestGrant:
    """The question to the broker."""
    return RequestGrant("spiffe://td/app", "orders", "app", "sales", rejected)


def logging_in(*refused: str, error: type[Refused] = Rejected) -> Callable[[SealedGrant], Script[str]]:
    """A login that ends in the user's name, or in an error for the users named here."""

    def log_in(fresh: SealedGrant) -> Script[str]:
        yield from connect()
        if fresh.user in refused:
            raise error(Reason.DATABASE_REFUSED, fresh.user)
        return fresh.user

    return log_in


def entering(
    log_in: Callable[[SealedGrant], Script[str]], again: Callable[[SealedGrant], Script[str]] | None = None
) -> Playbook[str]:
    """An entry that has its first grant."""
    book = Playbook(
        enter(
            log_in,
            log_in_again=again,
            workload="spiffe://td/app",
            database="orders",
            db_user="app",
            db_name="sales",
            rejection=Rejected,
            still_rejected=lambda error, fresh: Refused(
                Reason.DATABASE_REFUSED, f"{error.message}, twice", decision_id=fresh.decision_id
            ),
        )
    )
    return book.expect(asked(), grant(1))


def test_a_credential_that_is_taken_is_all_it_needs() -> None:
    """One question, one login."""
    book = entering(logging_in())
    book.expect(Connect())
    assert book.returns() == "user-1"


def test_a_rejected_credential_is_named_to_the_broker_and_the_login_repeated() -> None:
    """The session that signed it may have died: nobody else can find out."""
    book = entering(logging_in("user-1"))
    book.expect(Connect()).expect(asked(rejected="c-1"), grant(2)).expect(Connect())
    assert book.returns() == "user-2"


def test_a_second_rejection_is_explained_and_there_is_no_third_login() -> None:
    """A fresh credential was not the cure; the refusal is the fresh grant's."""
    book = entering(logging_in("user-1", "user-2"))
    book.expect(Connect()).expect(asked(rejected="c-1"), grant(2)).expect(Connect())
    refusal = book.raises(Refused)
    assert (refusal.message, refusal.decision_id) == ("user-2, twice", "d-2")
    assert isinstance(refusal.__cause__, Rejected)


def test_another_refusal_is_not_a_reason_to_ask_again() -> None:
    """The server took offence at something else."""
    book = entering(logging_in("user-1", error=Refused))
    book.expect(Connect())
    assert book.raises(Refused).message == "user-1"


def test_the_second_login_may_differ_from_the_first() -> None:
    """What the first one used up is not there any more."""
    book = entering(logging_in("user-1"), again=logging_in("user-2", error=Refused))
    book.expect(Connect()).expect(asked(rejected="c-1"), grant(2)).expect(Connect())
    assert book.raises(Refused).message == "user-2"
