"""Finds databases in AWS accounts: what to look at (`plan`), how to read what AWS says (`observers`), when (`sweep`).

    matchers --plan--> cells        one service, in one region, of one account, looked at by one role
    cell --sweep--> listings --observers--> sightings --registration--> databases, or skipped with a reason
    cells' states (`table`) --> store (`documents`, `stored`), registry, DiscoveryService, metrics
    registered databases --inspector--> AWS, one by name: is that its endpoint (`inspection`)? tags to labels

Everything but the sweep, the look and the inspector is pure. A cell is what succeeds or fails: one that is denied,
throttled or broken keeps what it knew and harms no other. The role that discovers a database is the role that gives
access to it, so a matcher is the operator's word on its role as an account link is.
"""
