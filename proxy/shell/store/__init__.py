"""Where entries are kept: in memory at once, on disk behind the reply.

    Store     what the cache layer holds (`store`): its state belongs to the event loop
      memory    whole entries up to a number of bytes, and the index of what is on disk
      pending   writes that wait, readable meanwhile; the newest of a key wins
      reading   reads under way, many to a trip; what is newer overtakes them
      disk      two threads and a breaker: trouble ends here as a miss
        tier      one database, opened, read, written and kept within its limit
          folder    the directory: ours alone, locked, bad files set aside
          verify    what this build would not have written is not opened
          rows      diskcache with its doors closed
        trouble   kinds of failure, and when to try again
    secret    the installation's secret, without which nothing on disk opens

`held` answers from memory alone, so a validator can be on its way to Graph while the body is still being read.
"""

from proxy.shell.store.key_file import KeyFileError, load_or_make_key
from proxy.shell.store.store import Bounds, Store

__all__ = ["Bounds", "KeyFileError", "Store", "load_or_make_key"]
