"""The error tree: stable, unique codes and one table of close codes."""

import pytest

from gameserver import errors
from gameserver.errors import GameServerError, close_code_of, close_code_table, should_reconnect


def tree(error: type[GameServerError] = GameServerError) -> list[type[GameServerError]]:
    own = [error] if error.__module__ == errors.__name__ else []
    return own + [found for child in error.__subclasses__() for found in tree(child)]


def test_every_error_has_a_code_of_its_own_and_a_sentence():
    seen: dict[str, type] = {}
    for error in tree():
        if error is errors.InternalError:  # the base stands for it where nothing better is known
            continue
        assert error.code not in seen, (error, seen[error.code])
        assert error.code == error.code.lower()
        assert error.code.replace("_", "").isalpha()
        assert error().message.endswith((".", ")"))
        seen[error.code] = error


def test_close_codes_are_in_the_private_range_and_say_whether_to_reconnect():
    table = close_code_table()
    assert [row.close_code for row in table] == sorted({row.close_code for row in table})
    for row in table:
        assert 4000 <= row.close_code <= 4999
        assert row.reconnect == (row.close_code >= 4500)
    assert {(row.close_code, row.code) for row in table} >= {
        (4001, "authentication_required"),
        (4003, "token_invalid"),
        (4503, "server_draining"),
    }


def test_errors_that_close_for_good_are_not_retryable_and_the_other_way_round():
    for error in tree():
        if error.close_code is not None:
            assert error.retryable == should_reconnect(error.close_code), error


@pytest.mark.parametrize(
    ("close_code", "reconnect"),
    [(1000, False), (1001, True), (1006, True), (1009, False), (1011, True), (1012, True), (4003, False), (4508, True)],
)
def test_standard_close_codes(close_code, reconnect):
    assert should_reconnect(close_code) is reconnect


def test_an_error_without_close_code_closes_as_internal():
    assert close_code_of(errors.MatchFull) == 4500
    assert close_code_of(errors.TokenExpired()) == 4003


def test_an_authors_own_error_needs_no_docstring():
    class TooFar(errors.ActionRefused):
        code = "too_far"

    assert TooFar().message == "too_far"
    assert TooFar("3 m too far").message == "3 m too far"
