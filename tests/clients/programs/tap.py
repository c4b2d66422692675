"""The whole of tap-facebook, told where Graph is: tap.py URL, then its own arguments."""

import sys

import tap_facebook
from facebook_business.session import FacebookSession

FacebookSession.GRAPH = sys.argv.pop(1)
tap_facebook.main()
