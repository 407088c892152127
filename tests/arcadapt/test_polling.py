import pytest

from arcadapt import ApiError, ServerUnreachable
from arcadapt.polling import poll

pytestmark = pytest.mark.fast


def test_a_server_that_is_away_for_a_moment_is_waited_for():
    answers = iter([ServerUnreachable("down"), ApiError(code="not_ready", status=503, title=""), False, True])
    looks = []

    def look() -> bool:
        looks.append(answer := next(answers))
        if isinstance(answer, Exception):
            raise answer
        return answer

    poll(look, every_s=0)
    assert len(looks) == 4


def test_a_server_that_stays_away_is_given_up():
    def look() -> bool:
        raise ServerUnreachable("down")

    with pytest.raises(ServerUnreachable):
        poll(look, every_s=0, patience_s=0)


def test_an_error_that_waiting_does_not_cure_comes_through():
    def look() -> bool:
        raise ApiError(code="not_found", status=404, title="Not Found")

    with pytest.raises(ApiError):
        poll(look, every_s=0)
