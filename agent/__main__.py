"""``python -m agent``: the same as the command ``agent``."""

import sys

from agent.cli import main

sys.exit(main())
