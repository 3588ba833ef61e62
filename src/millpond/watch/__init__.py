"""Readers of a job's counts: they see, and never steer.

progress        what a caller asked for with ``progress=``, and the thread that looks
snapshot        one look at a job: counts, rate, time left
displays        which view is the right one
views           where snapshots go: a callable, lines of text
terminal        bars that are drawn in place
notebook        a display that is updated in place
wording outlet  what is said, and how it is written
"""
