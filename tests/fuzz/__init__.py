"""Fuzz: hostile octets for everything that reads what others wrote (`make fuzz`).

    python -m tests.fuzz [--seconds N] [--only TARGET] [--engine atheris|hypothesis]

targets.py       a target a reader: octets in, an exception where a promise of that reader is broken
words.py         what each language is made of: the seeds of both engines
test_targets.py  hypothesis, a few cases of each target, in `make test`
guided.py        one target under atheris, which coverage guides
__main__.py      the long run: atheris where it can be had, else hypothesis

Whole dialogues with a running relay, both ways, are in tests/security/test_text.py. A finding becomes a case: an
`@example` of the test beside the module, or octets in `TARGETS`.
"""
