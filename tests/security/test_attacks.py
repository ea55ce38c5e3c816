"""The exploits of the review on real servers, with compose's users: `make attack` says the same in lines."""

from tests.security.attacks import run
from tests.security.place import deployed
from tests.servers import Servers


async def test_no_exploit_of_the_review_works(servers: Servers) -> None:
    answers: list[str] = []

    async with deployed(servers) as place:
        worked = await run(place, answers.append)

    assert worked == 0, "\n".join(answers)
