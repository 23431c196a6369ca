"""``python -m hornetmail.cli``."""

from hornetmail.cli.main import main

main()
