"""The whole plan of a story, from its size and seed."""

import random
from types import MappingProxyType

from tests.demo import cast, plan, spending
from tests.demo.plan import Act, Plan, Sending


def draw(*, accounts: int, recharges: int, seed: int) -> Plan:
    """Return the plan of that seed and size; the same one each time."""
    chance = random.Random(seed)
    held = plan.accounts(chance, accounts)
    opened = [plan.opening(number, user_id, currency) for number, (user_id, currency) in enumerate(held, 1)]
    recharged = plan.recharges(chance, held, recharges)
    rounds = max(1, accounts // plan.MISTAKES_EVERY)
    wrong = [mistake for round_no in range(1, rounds + 1) for mistake in plan.mistakes(round_no, held)]
    wrong += [plan.unreadable(number, *body) for number, body in enumerate(plan.bodies(rounds), 1)]
    again = [
        *plan.repeats(chance.sample(opened, min(rounds, len(opened)))),
        *plan.repeats(chance.sample(recharged, min(5 * rounds, len(recharged)))),
        *plan.repeats([item for item in wrong if item.command is not None][:rounds]),
        *(plan.conflict(item) for item in chance.sample(recharged, min(2 * rounds, len(recharged)))),
    ]
    acts: dict[Act, list[Sending]] = {act: [] for act in Act}
    acts[Act.OPEN] = opened
    acts[Act.RECHARGE] = [*recharged, *wrong]
    acts[Act.AGAIN] = again
    for round_no in range(1, rounds + 1):
        for act, sendings in cast.scenes(round_no, held[round_no % len(held)]).items():
            acts[act] += sendings
    for act, sendings in spending.spent(chance, held, recharged).items():
        acts[act] += sendings
    for round_no in range(1, rounds + 1):
        unpaid, cancel = cast.cancelled(round_no)
        acts[Act.END].append(unpaid)
        acts[Act.LAST].insert(0, cancel)
    acts[Act.LAST] += plan.repeats(chance.sample(acts[Act.SPEND], min(5 * rounds, len(acts[Act.SPEND]))))
    for act in (Act.RECHARGE, Act.SPEND, Act.USE):
        chance.shuffle(acts[act])
    return Plan(accounts=held, acts=MappingProxyType(acts))
