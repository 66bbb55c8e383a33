"""What stands in front of the sandbox's MongoDB server so that it is entered as Amazon DocumentDB is.

Runs as ``python -m docdb SETTINGS.json`` in the server's own virtual environment (which has ``bson``) with
``deploy/sandbox`` on the path, so it imports nothing of the rest of the project. A connection::

    client                     front                                   sandbox's STS        server
      | == TLS ================> |                                          |                  |
      | hello -----------------> | answers as the node it stands for        |                  |
      | saslStart, saslContinue> | -- GetCallerIdentity, as it was signed > |                  |
      |                          | <-- the role's ARN --------------------- |                  |
      | whatever it wants -----> | ---------------------------------------------------------> |
      | hello -----------------> | answers                                                     |

Before the login everything but hello, ping and the login itself is refused. ``messages`` is the wire, ``login`` the
MONGODB-AWS exchange, ``cluster`` who is primary, ``front`` the connections.
"""
