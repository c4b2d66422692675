"""The variables that lead a program's calls to the sidecar: the certificates to trust, and the proxy to use.

    roots        the bundle: all that programs trust without us, and our authority
    families     what each kind of program reads: its variables, and the files that these name
    proxies      the variables that name the proxy, and the hosts that are asked without one
    hooks/       what Python and Ruby load when they start, where no variable would do

Everything is a value: `proxy.cli` hands the environment in.
"""

from proxy.commands.trust.families import TrustContext, files, trusting, variables
from proxy.commands.trust.proxies import replaced
from proxy.commands.trust.roots import ca_bundle, unreadable_stores

__all__ = ["TrustContext", "ca_bundle", "files", "replaced", "trusting", "unreadable_stores", "variables"]
