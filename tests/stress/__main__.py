"""``python -m tests.stress``: the fault table, the sweep, the soak and the latencies."""

if __name__ == "__main__":
    import sys

    from tests.stress import command

    sys.exit(command.main(sys.argv[1:]))
