"""A receiving SMTP server whose manners are chosen on the command line: for the demonstration and for tests.

    python -m services.cli.demo.receiver --port 2525 --log seen.jsonl --maildir mail --greylist 5 --rate 50

`manners` decides (pure), `session` speaks SMTP, `seen` writes down what happened: the receiver's own word on who sent what, when, from
where.
"""
