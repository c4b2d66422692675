"""The command line: reads arguments, environment and file, then runs one command.

    entry       `main`: what was asked, and the exit status
    parsing     argparse with our habits
    commands    the table of commands
      serving   serve, run, check       asking    top, wait, quit, cache, replay, doctor
      offline   demo, emulate           ca        the authority of transparent mode
    flags       the flags that change settings, and what they come to

Nothing else in the package looks at the environment. Each command imports what it needs when it runs, so that
`check` and `--help` do not wait for a server.
"""

from proxy.cli.main import main, parse

__all__ = ["main", "parse"]
