"""The client without a socket, against the protocol's own encoders: what it sends, and what messages mean to it."""

from __future__ import annotations

from typing import Any

import pytest

from gameserver.client.core import (
    ActionFailed,
    Answered,
    Changed,
    ClientCore,
    Ended,
    Happened,
    Outcome,
    Refused,
    ResendLater,
    RoomCore,
    Write,
)
from gameserver.client.errors import RoomLeft
from gameserver.client.room_core import PARTS_MAX, WAITING_MAX
from gameserver.errors import (
    ActionInvalid,
    ActionRefused,
    ActionUnknown,
    LimitReached,
    MatchEnded,
    MatchFull,
    OutcomeUnknown,
    PermissionDenied,
    ProtocolError,
    RequestInvalid,
    SeqGap,
    SeqReused,
    SeqTooOld,
    SessionReplaced,
)
from gameserver.protocol import (
    Action,
    Hello,
    Join,
    JoinDetails,
    Leave,
    decode_client,
    encode_ack,
    encode_closed,
    encode_error,
    encode_events,
    encode_frame,
    encode_joined,
    encode_part,
    encode_pong,
    encode_refusal,
    encode_reply,
    encode_state,
    encode_welcome,
    pack,
)

SCHEMA = pack([["Game", 2, [["n", "int"], ["secret", "str"]]]])
CHANNEL = 7


def info(**changes: Any) -> dict[str, Any]:
    base = {
        "match": "m1", "game": "game", "session": "s1", "slot": 3, "epoch": 1, "version": 10, "time_ms": 500,
        "actions": ["fire", "steer"], "recovered": False, "spectator": False, "tick_hz": 20, "window": 4,
    }  # fmt: skip
    return {**base, **changes}


def joined(core: ClientCore, **changes: Any) -> RoomCore:
    sent = decode_client(core.join("game", "game", JoinDetails(), "join"))
    assert isinstance(sent, Join)
    answer = encode_joined(sent.request, CHANNEL, info(**changes), schema=SCHEMA, state=pack([1, 2, 0, "x"]))
    (outcome,) = [one for one in core.receive(answer) if isinstance(one, Answered)]
    assert outcome.ticket == "join"
    assert isinstance(outcome.value, RoomCore)
    return outcome.value


def frame(version: int, n: int, *, epoch: int = 1, events: Any = (), applied: Any = ()) -> bytes:
    return encode_frame(CHANNEL, epoch, version, version * 10, list(applied), pack([[1, 0, n]]), pack(list(events)))


def sent(outcomes: list[Outcome]) -> list[Action]:
    messages = [decode_client(outcome.data) for outcome in outcomes if isinstance(outcome, Write)]
    return [message for message in messages if isinstance(message, Action)]


@pytest.fixture
def core() -> ClientCore:
    return ClientCore()


@pytest.fixture
def room(core: ClientCore) -> RoomCore:
    return joined(core)


class TestConnection:
    def test_hello_carries_the_token_and_is_answered_by_the_welcome(self, core: ClientCore) -> None:
        message = decode_client(core.hello("secret", {"client": "test"}, "hello"))
        assert isinstance(message, Hello)
        assert (message.token, message.version, message.info) == ("secret", 1, {"client": "test"})
        welcome = {"connection": "c", "user": "u", "role": "player", "name": "U", "server_time_ms": 1, "protocol": 1}
        (outcome,) = core.receive(encode_welcome(welcome))
        assert isinstance(outcome, Answered)
        assert outcome.ticket == "hello"
        assert core.info is not None
        assert core.info.user == "u"

    def test_errors_come_back_as_the_class_of_their_code(self, core: ClientCore) -> None:
        core.join("match", "m1", JoinDetails(), "join")
        (outcome,) = core.receive(encode_error(1, "match_full", "no seat", False))
        assert isinstance(outcome, Refused)
        assert type(outcome.error) is MatchFull
        assert outcome.error.message == "no seat"

    def test_a_complaint_about_the_connection_is_why_it_ends(self, core: ClientCore) -> None:
        core.request("matches", {}, "asked")
        assert core.receive(encode_error(None, "session_replaced", "elsewhere", False)) == []
        assert isinstance(core.last_error, SessionReplaced)

    def test_ping_and_requests_are_answered_by_number(self, core: ClientCore) -> None:
        core.request("matches", {}, "asked")
        core.ping("pinged")
        assert core.receive(encode_pong(2, 1234)) == [Answered("pinged", 1234)]
        assert core.receive(encode_reply(1, [1, 2])) == [Answered("asked", [1, 2])]
        assert core.receive(encode_reply(1, [1, 2])) == []

    def test_a_given_up_request_is_not_answered(self, core: ClientCore) -> None:
        core.request("matches", {}, "asked")
        core.forget("asked")
        assert core.receive(encode_reply(1, 5)) == []

    def test_a_given_up_join_gives_the_seat_back(self, core: ClientCore) -> None:
        core.join("game", "game", JoinDetails(), "join")
        core.forget("join")
        answer = encode_joined(1, CHANNEL, info(), schema=SCHEMA, state=pack([1, 2, 0, "x"]))
        (outcome,) = core.receive(answer)
        assert isinstance(outcome, Write)
        assert decode_client(outcome.data) == Leave(2, CHANNEL)
        assert core.rooms == {}

    def test_what_cannot_be_encoded_is_told_at_once_and_leaves_nothing_behind(self, core: ClientCore) -> None:
        with pytest.raises(RequestInvalid):
            core.request("matches", {"filter": object()}, "asked")
        assert core.lost(MatchEnded(), reconnect=False) == []

    def test_messages_of_a_newer_server_are_skipped(self, core: ClientCore) -> None:
        assert core.receive(pack([99, "what is this"])) == []

    def test_garbage_is_a_protocol_error(self, core: ClientCore) -> None:
        with pytest.raises(ProtocolError):
            core.receive(b"\xc1")

    def test_a_lost_connection_fails_everything_that_waits(self, core: ClientCore, room: RoomCore) -> None:
        core.request("matches", {}, "asked")
        room.act("fire", {}, "fired")
        room.act("steer", {})
        error = MatchEnded("gone")
        assert core.lost(error, reconnect=True) == [
            Refused("asked", error),
            Refused("fired", error),
            Ended(room, error, True),
        ]
        assert core.lost(error, reconnect=True) == []

    def test_messages_for_rooms_we_are_not_in_are_ignored(self, core: ClientCore) -> None:
        assert core.receive(frame(11, 1)) == []
        assert core.receive(encode_ack(CHANNEL, 1, 1)) == []
        assert core.receive(encode_closed(CHANNEL, "match_ended", "", False)) == []


class TestActions:
    def test_actions_are_numbered_and_named_by_number(self, room: RoomCore) -> None:
        (first,) = sent(room.act("steer", {"dx": 1}))
        (second,) = sent(room.act("fire", ["x"], "fired"))
        assert (first.channel, first.seq, first.name, first.args, first.quiet) == (CHANNEL, 1, 1, {"dx": 1}, True)
        assert (second.seq, second.name, second.args, second.quiet) == (2, 0, ["x"], False)

    def test_the_first_number_follows_what_the_session_has_used(self, core: ClientCore) -> None:
        (first,) = sent(joined(core, seq=41).act("fire", {}))
        assert first.seq == 42

    def test_the_result_reaches_who_waits(self, core: ClientCore, room: RoomCore) -> None:
        room.act("fire", {}, "fired")
        assert core.receive(encode_ack(CHANNEL, 1, 11, True)) == [Answered("fired", True)]
        assert room.unacknowledged == 0

    def test_a_refusal_is_a_typed_error(self, core: ClientCore, room: RoomCore) -> None:
        room.act("fire", {}, "fired")
        (outcome,) = core.receive(encode_ack(CHANNEL, 1, 11, ["action_refused", "no ammo", False], error=True))
        assert isinstance(outcome, Refused)
        assert type(outcome.error) is ActionRefused
        assert outcome.error.message == "no ammo"

    def test_the_refusal_of_a_quiet_action_is_told_too(self, core: ClientCore, room: RoomCore) -> None:
        room.act("steer", {})
        (outcome,) = core.receive(encode_ack(CHANNEL, 1, 11, ["action_invalid", "dx", False], error=True))
        assert isinstance(outcome, ActionFailed)
        assert outcome.name == "steer"

    def test_an_acknowledgement_settles_all_before_it(self, core: ClientCore, room: RoomCore) -> None:
        room.act("steer", {})
        room.act("fire", {}, "lost answer")
        room.act("fire", {}, "fired")
        answers = core.receive(encode_ack(CHANNEL, 3, 11, 5))
        assert isinstance(answers[0], Refused)
        assert isinstance(answers[0].error, SeqTooOld)
        assert answers[1:] == [Answered("fired", 5)]
        assert room.unacknowledged == 0

    def test_a_refusal_settles_nothing_and_the_same_number_is_sent_again(
        self, core: ClientCore, room: RoomCore
    ) -> None:
        for n in range(3):
            room.act("fire", [n], n)
        assert core.receive(encode_refusal(CHANNEL, 2, 11, LimitReached())) == [ResendLater(room, 1)]
        assert core.receive(encode_refusal(CHANNEL, 3, 11, SeqGap())) == []
        assert room.unacknowledged == 3
        again = sent(room.resend())
        assert [(action.seq, action.args) for action in again] == [(2, [1]), (3, [2])]
        assert room.resend() == []
        assert core.receive(encode_refusal(CHANNEL, 2, 11, OutcomeUnknown())) == [ResendLater(room, 2)]
        core.receive(encode_ack(CHANNEL, 1, 11))
        answers = core.receive(encode_ack(CHANNEL, 3, 12, "ok"))
        assert answers[-1] == Answered(2, "ok")
        assert room.resend() == []
        assert core.receive(encode_refusal(CHANNEL, 3, 12, SeqGap())) == []

    def test_a_refusal_that_comes_twice_is_one_reason_to_send_again(self, core: ClientCore, room: RoomCore) -> None:
        room.act("fire", [1], 1)
        assert core.receive(encode_refusal(CHANNEL, 1, 11, SeqGap())) == [ResendLater(room, 1)]
        assert core.receive(encode_refusal(CHANNEL, 1, 11, SeqGap())) == []
        assert [action.seq for action in sent(room.resend())] == [1]

    def test_a_refusal_for_good_ends_the_session(self, core: ClientCore, room: RoomCore) -> None:
        room.act("fire", {}, "fired")
        refused, ended = core.receive(encode_refusal(CHANNEL, 1, 11, SeqReused()))
        assert isinstance(refused, Refused)
        assert isinstance(refused.error, SeqReused)
        assert isinstance(ended, Ended)
        assert ended.reconnect
        assert core.rooms == {}

    def test_spectators_have_no_actions(self, core: ClientCore) -> None:
        watching = joined(core, spectator=True, slot=-1)
        with pytest.raises(PermissionDenied):
            watching.act("fire", {})

    def test_the_window_is_never_exceeded_and_what_waits_goes_out_in_order(
        self, core: ClientCore, room: RoomCore
    ) -> None:
        numbers = [action.seq for n in range(10) for action in sent(room.act("fire", [n], n))]
        assert numbers == [1, 2, 3, 4]
        assert (room.unacknowledged, room.waiting) == (4, 6)
        outcomes = core.receive(encode_ack(CHANNEL, 2, 11, "ok"))
        assert [action.seq for action in sent(outcomes)] == [5, 6]
        assert sent(outcomes)[0].args == [4]
        outcomes = core.receive(encode_ack(CHANNEL, 6, 12, "ok"))
        assert [action.seq for action in sent(outcomes)] == [7, 8, 9, 10]

    def test_too_many_waiting_actions_are_refused_and_use_no_number(self, core: ClientCore, room: RoomCore) -> None:
        for _ in range(4 + WAITING_MAX):
            room.act("steer", {})
        with pytest.raises(LimitReached):
            room.act("steer", {})
        core.receive(encode_ack(CHANNEL, 4, 11))
        room.act("steer", {})
        assert room.waiting == WAITING_MAX - 3

    def test_bad_calls_are_told_at_once_and_use_no_number(self, room: RoomCore) -> None:
        with pytest.raises(ActionUnknown, match="fire, steer"):
            room.act("jump", {})
        with pytest.raises(ActionInvalid):
            room.act("fire", {"target": object()})
        with pytest.raises(ActionInvalid):
            room.act("fire", {"target": 2**70})
        (first,) = sent(room.act("fire", {}))
        assert first.seq == 1


class TestState:
    def test_a_frame_changes_the_mirror_and_then_tells_its_events(self, core: ClientCore, room: RoomCore) -> None:
        assert room.mirror.root.n == 0
        changed, happened = core.receive(frame(11, 5, events=[["boom", {"at": 1}]]))
        assert isinstance(changed, Changed)
        assert happened == Happened(room, "boom", {"at": 1})
        assert room.mirror.root.n == 5
        assert (room.position, room.time_ms) == ((1, 11), 110)

    def test_parts_wait_for_their_frame_and_come_after_it(self, core: ClientCore, room: RoomCore) -> None:
        part = encode_part(CHANNEL, 1, 11, pack([[1, 0, 6, 1, "mine"]]), pack([["whisper", 1]]))
        assert core.receive(part) == []
        assert room.mirror.root.n == 0
        outcomes = core.receive(frame(11, 5, events=[["boom", 2]]))
        assert [(o.name, o.data) for o in outcomes if isinstance(o, Happened)] == [("boom", 2), ("whisper", 1)]
        assert (room.mirror.root.n, room.mirror.root.secret) == (6, "mine")

    def test_parts_of_a_version_that_was_skipped_are_dropped(self, core: ClientCore, room: RoomCore) -> None:
        core.receive(encode_part(CHANNEL, 1, 11, pack([[1, 0, 99]])))
        core.receive(frame(12, 5))
        assert room.mirror.root.n == 5
        core.receive(frame(13, 6))
        assert room.mirror.root.n == 6

    def test_parts_without_end_are_a_protocol_error(self, core: ClientCore) -> None:
        joined(core)
        part = encode_part(CHANNEL, 1, 11, pack([]))
        for _ in range(PARTS_MAX):
            core.receive(part)
        with pytest.raises(ProtocolError):
            core.receive(part)

    def test_versions_may_have_gaps_but_never_go_back(self, core: ClientCore, room: RoomCore) -> None:
        core.receive(frame(20, 1))
        assert core.receive(frame(20, 2)) == []
        assert core.receive(frame(15, 3)) == []
        assert (room.mirror.root.n, room.position) == (1, (1, 20))

    def test_lower_epochs_are_dropped(self, core: ClientCore, room: RoomCore) -> None:
        core.receive(frame(11, 1, epoch=2))
        assert room.position == (2, 11)
        assert core.receive(frame(30, 2, epoch=1)) == []
        assert core.receive(encode_part(CHANNEL, 1, 31, pack([]))) == []
        assert core.receive(encode_events(CHANNEL, 1, 30, pack([["boom", 1]]))) == []
        assert core.receive(encode_state(CHANNEL, 1, 30, 0, pack([1, 2, 9, "x"]))) == []
        assert room.mirror.root.n == 1

    def test_urgent_events_are_handed_on_at_once(self, core: ClientCore, room: RoomCore) -> None:
        events = core.receive(encode_events(CHANNEL, 1, 10, pack([["hit", 1], ["hit", 2]])))
        assert events == [Happened(room, "hit", 1), Happened(room, "hit", 2)]

    def test_a_full_state_replaces_everything(self, core: ClientCore, room: RoomCore) -> None:
        core.receive(encode_part(CHANNEL, 1, 11, pack([[1, 0, 99]])))
        outcomes = core.receive(encode_state(CHANNEL, 1, 40, 4000, pack([1, 2, 8, "new"]), 3))
        assert [type(outcome) for outcome in outcomes] == [Changed]
        assert (room.mirror.root.n, room.mirror.root.secret, room.position) == (8, "new", (1, 40))
        assert room.events_lost == 3

    def test_a_full_state_may_bring_a_new_schema(self, core: ClientCore, room: RoomCore) -> None:
        schema = pack([["Game", 1, [["m", "int"]]]])
        core.receive(encode_state(CHANNEL, 2, 40, 4000, pack([1, 2, 8]), 0, schema))
        assert room.mirror.root.m == 8

    def test_applied_names_our_own_last_action(self, core: ClientCore, room: RoomCore) -> None:
        core.receive(frame(11, 1, applied=[1, 50, 3, 7]))
        assert room.applied == 7

    def test_a_frame_without_changes_tells_only_its_events(self, core: ClientCore, room: RoomCore) -> None:
        message = encode_frame(CHANNEL, 1, 11, 0, [], pack([]), pack([["tick", None]]))
        assert core.receive(message) == [Happened(room, "tick", None)]
        assert room.position == (1, 11)


class TestEnds:
    def test_a_closed_match_fails_its_actions_and_says_why(self, core: ClientCore, room: RoomCore) -> None:
        room.act("fire", {}, "fired")
        refused, ended = core.receive(encode_closed(CHANNEL, "match_ended", "won", False))
        assert isinstance(refused, Refused)
        assert isinstance(ended, Ended)
        assert (type(ended.error), ended.error.message, ended.reconnect) == (MatchEnded, "won", False)
        with pytest.raises(MatchEnded):
            room.act("fire", {})

    @pytest.mark.parametrize("answer", [encode_reply(2), encode_error(2, "not_joined", "", False)])
    def test_leaving(self, core: ClientCore, room: RoomCore, answer: bytes) -> None:
        core.leave(room, "left")
        ended, answered = core.receive(answer)
        assert isinstance(ended, Ended)
        assert isinstance(ended.error, RoomLeft)
        assert answered == Answered("left", None)
        assert core.rooms == {}

    def test_the_match_closes_while_we_leave(self, core: ClientCore, room: RoomCore) -> None:
        core.leave(room, "left")
        assert len(core.receive(encode_closed(CHANNEL, "match_ended", "", False))) == 1
        assert core.receive(encode_reply(2)) == [Answered("left", None)]

    def test_a_room_that_is_being_left_does_not_come_back(self) -> None:
        """Its match moves to another node in between: who has left does not join it again."""
        core = ClientCore(rejoins=True)
        core.leave(joined(core), "left")
        [ended] = core.receive(encode_closed(CHANNEL, "match_moved", "", True))
        assert isinstance(ended, Ended)
        assert isinstance(ended.error, RoomLeft)
        assert core.away == []
        assert core.receive(encode_error(2, "not_joined", "", False)) == [Answered("left", None)]

    def test_a_spectator_says_what_it_has_seen(self, core: ClientCore) -> None:
        """So that it is not shown less by a server that does not know yet that the match has moved."""
        details = joined(core, spectator=True, slot=-1).details()
        assert details.spectate
        assert details.resume is not None
        assert (details.resume.epoch, details.resume.version) == (1, 10)

    def test_joining_again_replaces_the_room(self, core: ClientCore, room: RoomCore) -> None:
        again = joined(core)
        assert room.ended is not None
        assert core.rooms == {CHANNEL: again}


def test_urgent_events_that_were_heard_stay_heard_when_the_match_is_put_back(core: ClientCore, room: RoomCore) -> None:
    """The store forgot, its owner did not: the same version under the next epoch, with nothing new in it."""
    core.receive(frame(11, 4))
    core.receive(encode_events(CHANNEL, 1, 11, pack([["hit", 1]])))
    core.receive(encode_state(CHANNEL, 2, 11, 110, pack([1, 2, 4, "x"]), 0, schema=SCHEMA))
    resume = room.details().resume
    assert resume is not None
    assert (resume.epoch, resume.version, resume.events_version) == (2, 11, 11)
