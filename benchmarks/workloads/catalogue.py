"""All workloads, in the order of the table."""

from benchmarks.workloads import big, life, real, skew, small, waiting

WORKLOADS = (
    *small.WORKLOADS, *big.WORKLOADS, *life.WORKLOADS, *skew.WORKLOADS, *waiting.WORKLOADS, *real.WORKLOADS,
)  # fmt: skip
