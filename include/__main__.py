"""`python -m include COMMAND`: the command line, also installed as `ragworks`."""

from include.cli.main import main

raise SystemExit(main())
