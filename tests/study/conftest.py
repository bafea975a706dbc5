from __future__ import annotations

import hypothesis

# The first example pays for what is then cached, on a machine that may be busy.
hypothesis.settings.register_profile("untimed", deadline=None)
hypothesis.settings.load_profile("untimed")
