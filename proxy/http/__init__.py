"""HTTP/1.1 as values: what a message's head says, where its body ends, what its target means. PURE.

    heads.py    request and response heads, strictly; what goes on and what stays here
    bodies.py   chunked bodies
    target.py   a request's path and query as they are sent, so that what is signed is what is sent
    model.py    what an engine decides about a request
    pages.py    requests that a page in a browser may have made

Spec: https://www.rfc-editor.org/rfc/rfc9110, https://www.rfc-editor.org/rfc/rfc9112

The parsers are strict and raise PeerViolation for everything that two readers could understand differently: bare line
ends, folded lines, blanks before a colon, a length given twice or in two ways. No framing is ever copied from one side
to the other: a message is read to its end by one set of rules, and what is sent on is written anew.
"""
