"""Worker processes.

    parent                                                        worker
    ParentChannel (outbox, decoder)  <--- private socketpair --->  WorkerChannel
    Slate, read                      <--- one shared page    --->  Slate, written
    pidfd, polled                    <--- its end

A worker is a ``Process`` of the pool's context, started as that context starts processes. Its parent learns of
its end by the pidfd alone: end of file on the channel is not death (a process that a task left behind may hold
the other end), and every frame that was sent counts, so the channel is drained before a death is judged.
"""

# Nothing is imported here: a process that starts imports ``starting``, and should pay for no more.
