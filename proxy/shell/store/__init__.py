"""Stores entries: in memory at once, on disk after the reply.

    store         what the pipeline's cache layer calls; its state belongs to the event loop
      memory        whole entries up to a number of bytes, and the index of what is on disk
      write_queue   writes that wait for the disk and can be read meanwhile; the newest write of a key wins
        group_writer  writes them in groups after the replies
      read_queue    reads of the disk in progress, several in one trip to the thread
      disk          two threads and a circuit breaker: a disk error becomes a cache miss
        database      one database: opens, reads, writes, and stays within its size limit
          directory     the database's folder: private, locked; damaged files are quarantined
          verify        refuses a database that this build did not write
          sqlite        diskcache without pickle and without files beside the database
        corruption    kinds of disk errors, what is erased after them, and when the disk is tried again
    key_file      the installation's secret; without it no entry on disk can be decrypted

`Store.known_meta` reads memory alone, so a validator can be sent to Graph while the body is still read from disk.
"""

from proxy.shell.store.key_file import KeyFileError, load_or_make_key
from proxy.shell.store.store import Bounds, Store

__all__ = ["Bounds", "KeyFileError", "Store", "load_or_make_key"]
