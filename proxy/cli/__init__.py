"""The command line: reads arguments, environment and file, then runs one command.

    main                `main`: parses the command line, runs the command, returns the exit status
    arguments           the flags of all settings, and the settings that they give
    commands            the table of commands
    server_commands     serve, run, check
    client_commands     top, wait, reload, quit, cache, replay, doctor
    offline_commands    demo, emulate
    ca_commands         ca

No other module reads settings from the environment. Each command imports what it needs when it runs, so that `check`
and `--help` load no server.
"""

from proxy.cli.main import main, parse

__all__ = ["main", "parse"]
