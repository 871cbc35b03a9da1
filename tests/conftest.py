"""Settings of the whole suite."""

import os

from hypothesis import settings

# The gate must say the same thing twice; a developer's run explores. Shared machines are slow at times, so no deadline.
# Fifty examples a law: the suite is to end in minutes. What needs more says so, and `tools/attack` goes on as long as it is told.
EXAMPLES = int(os.environ.get("KVPLAN_EXAMPLES", "50"))
settings.register_profile("developer", deadline=None, max_examples=EXAMPLES)
settings.register_profile("gate", deadline=None, max_examples=EXAMPLES, derandomize=True)
settings.load_profile("gate" if os.environ.get("CI") else "developer")
