"""Connections to the server that clients of one workload and database user share.

client ── Seat ─┐                              Seat: one client; its engine's Sharer decides what may share
client ── Seat ─┼── Trunk ── Link(upstream)    Trunk: one connection; sends in turn, counts answers, hands them out
client ── Seat ─┘                              Trunks: all of a process, found or made by what a login asked for

A client that needs a connection of its own gets one (`SharedSession`), and is relayed from there on like any other.
Per message nothing runs here but a count and a write: no coroutine, task, log line or metric call.
"""
