"""What a program is told so that its calls to Graph come here: whom to trust, and which proxy to use.

    roots        the bundle: all that programs trust without us, and our authority
    families     what each kind of program reads: its variables, and the files that these name
    proxies      the variables that name the proxy, and the hosts that are asked without one
    hooks/       what Python and Ruby load when they start, where no variable would do

Everything is a value: `proxy.cli` hands the environment in.
"""

from proxy.trust.families import Told, files, trusting, variables
from proxy.trust.proxies import replaced
from proxy.trust.roots import bundle, unread

__all__ = ["Told", "bundle", "files", "replaced", "trusting", "unread", "variables"]
