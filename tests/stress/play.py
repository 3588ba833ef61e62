"""Plays one scenario: ``python -m tests.stress.play SECTION NAME METHOD``; the judge starts it."""

if __name__ == "__main__":
    import faulthandler
    import json
    import os
    import sys
    from pathlib import Path

    faulthandler.enable()
    os.environ.setdefault("MILLPOND_FAILPOINTS", "")
    from tests.stress import catalogue, stage

    section, name, method = sys.argv[1:]
    (chosen,) = (fault for fault in catalogue.load((section,)) if fault.name == name)
    told = stage.judged(chosen.act, method)
    Path(os.environ["STRESS_VERDICT"]).write_text(json.dumps(told))
