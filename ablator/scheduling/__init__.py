"""The sweep: Ray Tune over slots of Ray Train workers, Optuna, early stopping, the cluster."""

import os
from pathlib import Path

# Ray asks for a token by itself where it starts a cluster, but shows one where it joins only if this is set
# before Ray is imported; it looks for the token in these places.
if (
    os.environ.get("RAY_AUTH_TOKEN")
    or os.environ.get("RAY_AUTH_TOKEN_PATH")
    or (Path.home() / ".ray" / "auth_token").is_file()
):
    os.environ.setdefault("RAY_AUTH_MODE", "token")
