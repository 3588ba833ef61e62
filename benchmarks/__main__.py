"""``python -m benchmarks``."""

if __name__ == "__main__":
    import sys

    from benchmarks.command import main

    sys.exit(main(sys.argv[1:]))
