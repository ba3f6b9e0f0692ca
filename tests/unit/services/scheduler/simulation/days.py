"""What the tests simulate."""

CONFIGURATION = """
[kafka]
slots = 4
[sources]
ip-1 = { slot = 0, kind = "bind", address = "192.0.2.1", ehlo = "m1.example.com", warmup = "none" }
ip-2 = { slot = 1, kind = "bind", address = "192.0.2.2", ehlo = "m2.example.com", warmup = "none" }
ip-3 = { slot = 2, kind = "bind", address = "192.0.2.3", ehlo = "m3.example.com", warmup = "none" }
new = { slot = 3, kind = "bind", address = "192.0.2.4", ehlo = "m4.example.com", warmup = "geometric" }
[pools]
main.sources = { ip-1 = 1, ip-2 = 1, ip-3 = 1, new = 1 }
[tenants]
a = { domains = ["a.example"], pools = { transactional = "main", bulk = "main" } }
b = { domains = ["b.example"], pools = { transactional = "main", bulk = "main" } }
c = { domains = ["c.example"], pools = { transactional = "main", bulk = "main" } }
d = { domains = ["d.example"], pools = { transactional = "main", bulk = "main" } }
[limits.gmail]
rate = "95/min"
[limits.yahoo]
rate = "50/min"
"""
