"""example.py skip|wait|count NAME N SECONDS: works for SECONDS under the lock NAME."""
import os, sys, time
from lockd import Lockd

way, name, n, seconds = sys.argv[1], sys.argv[2], float(sys.argv[3]), float(sys.argv[4])
with Lockd() as lockd:  # its end releases all, whatever ends it
    if way == "skip":  # get it, or let whoever has it do the work
        got = lockd.get(name)
    elif way == "wait":  # wait for it, N seconds at most
        got = lockd.get(name, wait=n)
    else:  # be one of N at most
        got = lockd.get_shared(name, limit=int(n))
    if not got:
        sys.exit("not got")
    print("got it", int(got), flush=True)

    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if lockd.lost.wait(0.1):  # a step of the work
            sys.exit("lost")  # somebody else may have the lock now
print("done")
