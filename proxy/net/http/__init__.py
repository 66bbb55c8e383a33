"""HTTP engines' side of the network: every request is routed, allowed, signed and sent for itself.

    listener ──accepts──> Inbound ──one at a time──> Exchange ──takes from the pool──> Upstream
                                                        |
                                    Passes: whose keys; Signer: at the moment of sending

listener.py  TLS with clients, deadlines           inbound.py   a client's connection: requests out of bytes
exchange.py  one request, from route to answer     upstream.py  a server's connection: answers out of bytes
pool.py      connections kept for the next request passes.py    grants, kept for a second, and who may sign what
bodies.py    request bodies within a bound         house.py     what all requests of a listener share

The hot path, from a request's bytes to its answer's, runs in the callbacks of two sockets: no coroutine, no task, no
timer, no log line. Tasks are for what has to wait: a grant, a dial, a body that does not fit into one read.
"""
