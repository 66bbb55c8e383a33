"""What every engine of one sandbox stands on."""

from dataclasses import dataclass
from pathlib import Path

from deploy.sandbox import topology
from deploy.sandbox.pam import Quarters
from deploy.sandbox.pki import CertificateAuthority
from deploy.sandbox.processes import Ledger


@dataclass(frozen=True, slots=True, kw_only=True)
class Ground:
    """Engines start on it side by side, each in threads of its own."""

    runtime: Path
    """A short directory that the servers' user may pass through; gone with the sandbox."""
    logs: Path
    authority: CertificateAuthority
    quarters: Quarters
    ledger: Ledger
    max_connections: int
    """Of each database server."""

    @property
    def verify_socket(self) -> Path:
        """Where tokens are judged."""
        return self.runtime / "verify.sock"

    @property
    def http_socket(self) -> Path:
        """Where AWS's own HTTP services are to be had without TLS."""
        return self.runtime / "http.sock"

    def service(self, spec: topology.DatabaseSpec) -> str:
        """What a database is called where tokens are judged; for PAM, its service's name."""
        return service_name(self.runtime, spec)

    def make_directory(self, name: str) -> Path:
        """A server's own directory, not yet the server's user's."""
        directory = self.runtime / name
        directory.mkdir(mode=0o700)
        return directory


def service_name(runtime: Path, spec: topology.DatabaseSpec) -> str:
    """Unique on this machine as long as the runtime directory is."""
    return f"{runtime.name}-{spec.name}"
