"""Settings of the whole suite."""

import os

from hypothesis import settings

# The gate must say the same thing twice; a developer's run explores. Shared machines are slow at times, so no deadline.
settings.register_profile("developer", deadline=None)
settings.register_profile("gate", deadline=None, derandomize=True)
settings.load_profile("gate" if os.environ.get("CI") else "developer")
