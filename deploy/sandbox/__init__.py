"""Three AWS accounts and real database servers on one machine.

The demo, the tests and the benchmarks all stand on this one sandbox::

    tests, demo, broker, proxy
        |  AssumeRole, IAM, GetCallerIdentity            |  TLS, user, IAM token as the password
        v                                                v
    aws/ (one process, own virtual environment)      one server per database host (`engines`)
        ministack   STS + IAM of every account         PostgreSQL 15, MariaDB    PAM: pam_token.so
        strict      what AWS refuses and ministack     Valkey behind haproxy     module: valkey_auth.so
                    would let through                    |  service \\0 user \\0 token
        logins,     the token check that RDS,            v
        tokens      ElastiCache, MemoryDB make  <--- unix socket
        redshift    temporary users  --------------> PostgreSQL as Redshift: md5, those users alone
        inventory   describe, list, tags, modify of what is in the accounts (``estate``), by botocore's models
        /_sandbox   counters, faults, expiry, login log

Account 111111111111 runs the broker and owns database ``local``; 333333333333 owns ``analytics`` and 222222222222 the
rest; they trust the broker through one role each (``topology`` holds every name). The issuer of a token (the broker)
and its judge (``aws.tokens``, ministack's verifiers) share no code.

Everything listens on a free port of 127.0.0.1, so several sandboxes run side by side. What a database server has to
read lives in a short directory of its own under the system's temporary directory, because the server runs as another
user and unix socket paths are short; all else is in the sandbox's directory.

``Sandbox`` starts and stops it, ``World`` says what is there, ``control`` steers it while it runs, ``accounts``
changes roles and policies, ``pki`` issues certificates.
"""

from deploy.sandbox.errors import MissingEngine, SandboxError
from deploy.sandbox.sandbox import Sandbox
from deploy.sandbox.world import Database, World

__all__ = ["Database", "MissingEngine", "Sandbox", "SandboxError", "World"]
