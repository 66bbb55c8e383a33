"""Three AWS accounts and real PostgreSQL servers on one machine.

The demo, the tests and the benchmarks all stand on this one sandbox::

    tests, demo, broker, proxy
        |  AssumeRole, IAM, GetCallerIdentity            |  TLS, user, RDS IAM token as the password
        v                                                v
    aws/ (one process, own virtual environment)      PostgreSQL 15, one server per database host
        ministack   STS + IAM of every account           |  PAM: pam_token.so
        strict      what AWS refuses and ministack       |  service \\0 user \\0 token
                    would let through                    v
        logins      the token check RDS makes  <---- unix socket
        /_sandbox   counters, faults, expiry, login log

Account 111111111111 runs the broker and owns database ``local``; 222222222222 and 333333333333 own ``rds-postgres``
and ``analytics`` and trust the broker through one role each (``topology`` holds every name). The issuer of a token
(the broker) and its judge (``aws.logins``, ministack's verifier) share no code.

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
