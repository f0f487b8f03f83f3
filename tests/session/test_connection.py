"""The connection's state machine: which message may come when, how many, and what it has open."""

import pytest

from gameserver import errors
from gameserver.access import Claims, Role
from gameserver.protocol import CLIENT_MESSAGES, Action, Hello, Join, JoinDetails, Leave, Ping, Request
from gameserver.session import TRANSITIONS, ConnectionPolicy, ConnectionState, SessionMachine

ALICE = Claims("alice", "Alice", Role.PLAYER, 1e9)
MESSAGES = {
    Hello: Hello(1, "token"),
    Join: Join(1, "game", "arena"),
    Action: Action(1, 1, "fire", []),
    Leave: Leave(2, 1),
    Request: Request(3, "time", {}),
    Ping: Ping(1),
}


def machine_in(state: ConnectionState, **policy) -> SessionMachine:
    machine = SessionMachine(ConnectionPolicy(**policy), now=0.0)
    if state is not ConnectionState.NEW:
        machine.accept(MESSAGES[Hello])
    if state in (ConnectionState.READY, ConnectionState.CLOSING):
        machine.welcome(ALICE)
    if state is ConnectionState.CLOSING:
        machine.close()
    return machine


def ready(**policy) -> SessionMachine:
    return machine_in(ConnectionState.READY, **policy)


def test_the_table_covers_every_state_and_message():
    assert set(TRANSITIONS) == set(ConnectionState)
    for verdicts in TRANSITIONS.values():
        assert set(verdicts) == set(CLIENT_MESSAGES.values())


@pytest.mark.parametrize("kind", list(MESSAGES))
@pytest.mark.parametrize("state", list(ConnectionState))
def test_every_message_in_every_state(state, kind):
    """Written out again here: hello once and first, the rest after the welcome, nothing once closing."""
    machine = machine_in(state)
    assert machine.state is state
    if state is ConnectionState.CLOSING:
        assert machine.accept(MESSAGES[kind]) is False
    elif (kind is Hello) == (state is ConnectionState.NEW) and state is not ConnectionState.GREETED:
        assert machine.accept(MESSAGES[kind]) is True
    else:
        refusal = errors.HelloRepeated if kind is Hello else errors.HelloExpected
        with pytest.raises(refusal) as refused:
            machine.accept(MESSAGES[kind])
        assert refused.value.close_code is not None
        assert machine.state is state


def test_a_type_that_is_not_in_the_table_is_refused():
    with pytest.raises(errors.MessageTypeUnknown):
        ready().accept(object())


def test_another_protocol_version_is_refused():
    machine = SessionMachine(now=0.0)
    with pytest.raises(errors.ProtocolVersionUnsupported, match="version 1, not 2"):
        machine.accept(Hello(2, None))
    assert machine.state is ConnectionState.NEW


def test_a_welcome_needs_a_hello():
    with pytest.raises(errors.HelloExpected):
        SessionMachine(now=0.0).welcome(ALICE)


def test_the_hello_has_a_deadline():
    machine = SessionMachine(ConnectionPolicy(hello_timeout_seconds=5), now=100.0)
    assert machine.hello_deadline == 105.0
    machine.check_hello_deadline(104.9)
    with pytest.raises(errors.HelloTimeout):
        machine.check_hello_deadline(105.0)
    machine.accept(MESSAGES[Hello])
    machine.check_hello_deadline(200.0)


def test_the_budget_holds_a_flood_and_recovers():
    machine = ready(messages_per_second=10, messages_burst=5)
    for _ in range(5):
        machine.admit(20, 0.0)
    with pytest.raises(errors.BudgetExceeded):
        machine.admit(20, 0.05)
    machine.admit(20, 0.11)


def test_large_messages_cost_more_but_never_more_than_a_full_budget():
    machine = ready(messages_per_second=1, messages_burst=10)
    machine.admit(4 * 1024, 0.0)  # five tokens
    machine.admit(4 * 1024, 0.0)
    with pytest.raises(errors.BudgetExceeded):
        machine.admit(1, 0.0)
    machine.admit(1_000_000, 10.0)


def test_a_request_number_is_used_by_one_request_at_a_time():
    machine = ready(requests_max=2)
    machine.open_request(7)
    with pytest.raises(errors.RequestPending) as refused:
        machine.open_request(7)
    assert refused.value.close_code is None
    machine.open_request(8)
    with pytest.raises(errors.LimitReached):
        machine.open_request(9)
    machine.close_request(7)
    machine.open_request(7)


def test_channels_are_counted_and_looked_up():
    machine = ready(channels_max=2)
    machine.open_channel(4, "s1")
    machine.open_channel(5, "s2")
    machine.open_channel(5, "s3")  # the same match joined again: its channel, a new session
    assert machine.session_of(5) == "s3"
    with pytest.raises(errors.LimitReached):
        machine.open_channel(6, "s4")
    with pytest.raises(errors.LimitReached):
        machine.check_join(MESSAGES[Join])
    assert machine.close_channel(4) == "s1"
    assert machine.close_channel(4) is None
    machine.check_join(MESSAGES[Join])
    with pytest.raises(errors.NotJoined) as refused:
        machine.session_of(4)
    assert refused.value.close_code is None
    assert machine.channels == {5: "s3"}


@pytest.mark.parametrize("kind", ["match", "game", "create"])
@pytest.mark.parametrize("spectate", [False, True])
def test_every_role_may_join_create_and_spectate_by_default(kind, spectate):
    for role in Role:
        machine = SessionMachine(now=0.0)
        machine.accept(MESSAGES[Hello])
        machine.welcome(Claims("u", "u", role, 1e9))
        machine.check_join(Join(1, kind, "arena", JoinDetails(spectate=spectate)))


def test_a_join_asks_for_its_permissions(monkeypatch):
    asked = []
    monkeypatch.setattr("gameserver.session.connection.check_permission", lambda role, what: asked.append(str(what)))
    machine = ready()
    machine.check_join(Join(1, "match", "m1"))
    machine.check_join(Join(1, "create", "arena"))
    machine.check_join(Join(1, "create", "arena", JoinDetails(spectate=True)))
    assert asked == ["match:join", "match:create", "match:spectate", "match:create"]


def test_nobody_joins_before_the_welcome():
    with pytest.raises(errors.HelloExpected):
        SessionMachine(now=0.0).check_join(MESSAGES[Join])
