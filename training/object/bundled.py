"""Where the generator of training/bundled is: import this before one of its modules. Neither folder is a package."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1] / "bundled"))
