"""For fakes that hand out tokens and are never asked to sign."""

from __future__ import annotations

from tollbridge.model import StsChallenge, StsProof


class NoProofs:
    """Answers no challenge."""

    async def sign_challenge(
        self,
        *,
        workload: str = "",
        database: str = "",
        db_user: str = "",
        db_name: str = "",
        challenge: StsChallenge,
    ) -> StsProof:
        """Nobody asks."""
        raise AssertionError(f"{database} asks {workload} for a proof as {db_user} in {db_name}: {challenge}")
