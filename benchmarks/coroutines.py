"""What a coroutine costs its worker: ``python benchmarks/coroutines.py [rounds]``.

The time that the worker's own CPU clock shows for coroutines that give way once, less what the same coroutines
take as plain asyncio tasks of one loop, and the time of a whole map on one worker.
"""

import asyncio
import statistics
import sys
import time

from millpond import Pool

COUNT = 20_000


async def give_way(number: int) -> int:
    """Wait for one turn of the loop."""
    await asyncio.sleep(0)
    return number


def cpu_clock(_: int) -> float:
    """Seconds of CPU that this process has had."""
    return time.process_time()


async def plainly() -> float:
    """Seconds a coroutine in asyncio alone, a hundred at a time."""
    begin = time.process_time()
    for start in range(0, COUNT, 100):
        await asyncio.gather(*[give_way(number) for number in range(start, start + 100)])
    return (time.process_time() - begin) / COUNT


def measure(pool: "Pool") -> tuple[float, float]:
    """Seconds of the worker's CPU a coroutine, and seconds until all are answered."""
    before = pool.apply(cpu_clock, (0,))
    begin = time.perf_counter()
    pool.map(give_way, range(COUNT))
    whole = (time.perf_counter() - begin) / COUNT
    return (pool.apply(cpu_clock, (0,)) - before) / COUNT, whole


def main() -> None:
    """Print the medians."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    alone = statistics.median(asyncio.run(plainly()) for _ in range(rounds))
    with Pool(1) as pool:
        measure(pool)
        workers, wholes = zip(*[measure(pool) for _ in range(rounds)], strict=True)
    cost = statistics.median(workers)
    print(f"in asyncio alone        {alone * 1e6:6.1f} us")
    print(f"in a worker, its CPU    {cost * 1e6:6.1f} us, {(cost - alone) * 1e6:.1f} us more")
    print(f"map on one worker       {statistics.median(wholes) * 1e6:6.1f} us")


if __name__ == "__main__":
    main()
