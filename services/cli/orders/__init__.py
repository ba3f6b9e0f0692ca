"""`postyard pause|resume|cancel|reroute|rush|slow|expire|limit`, and `directives`: orders to the schedulers.

An order is a record in mail.control under an id of its own. What stands (pause, slow, limit) ends by itself or with `resume`; of what is
done once the record stays as long as mail can come late that it is about. Mail that waits for a pause uses no attempt; what was granted
before goes on. No lifetime is extended: what expires meanwhile expires.
"""
