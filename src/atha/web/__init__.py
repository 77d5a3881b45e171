"""What any page or service on this machine needs: who may ask, how much, until when, and pages that load nothing else.

refusals.py   what is refused, as a status and one sentence of JSON
limits.py     how much a service takes: bytes, seconds, requests
access.py     who may ask: the token, the names that a host is called by, the page that a request comes from
guard.py      the outermost layer of an application, which holds both
server.py     binding, headers that come in time, and an end that answers what was asked before it
pages.py      a page in one file, with a policy that lets it load nothing
"""
