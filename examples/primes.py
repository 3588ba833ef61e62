"""Compute: map a function over blocks of numbers, and reduce what comes back.

Finds every prime below five million by trial division and counts their last digits. Each block of
ten thousand numbers is one task, which returns one small ``Counter``; adding those up is the
reduction. That there are 348,513 such primes has long been known, so the answer can be checked.
"""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from workload import Workload

LIMIT = 5_000_000
BLOCK = 10_000
DIVISORS = [n for n in range(2, 2_237) if all(n % d for d in range(2, int(n**0.5) + 1))]


def is_prime(number: int) -> bool:
    """Whether ``number`` is prime; right for all numbers below ``LIMIT``."""
    for divisor in DIVISORS:
        if divisor * divisor > number:
            break
        if number % divisor == 0:
            return False
    return number > 1


def count_last_digits(block: range) -> Counter[int]:
    """Count the primes in a block of numbers by their last digit."""
    return Counter(number % 10 for number in block if is_prime(number))


def blocks(folder: Path) -> list[range]:
    """The numbers below ``LIMIT`` in blocks; nothing is written, so the folder is not used."""
    return [range(start, start + BLOCK) for start in range(0, LIMIT, BLOCK)]


def conclude(counts: Sequence[Counter[int]]) -> str:
    """Add the counts up."""
    total = sum(counts, Counter[int]())
    shares = ", ".join(f"{total[digit]:,} end in {digit}" for digit in (1, 3, 7, 9))
    return f"{total.total():,} primes: {shares}"


WORKLOAD = Workload(
    title=f"Compute: the primes among {LIMIT:,} numbers",
    function=count_last_digits,
    inputs=blocks,
    conclude=conclude,
)
