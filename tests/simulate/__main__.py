"""``python -m tests.simulate``."""

if __name__ == "__main__":
    import sys

    from tests.simulate.campaign import main

    sys.exit(main(sys.argv[1:]))
