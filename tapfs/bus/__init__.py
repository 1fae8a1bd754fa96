"""The operation directory: files and nothing else.

Everything here works on the control directory alone. It imports no Celery, no Click and no watchdog; the time and the
way to publish are passed in. What the files mean is written in `docs/format.md`, why they are enough in
`docs/design.md`.
"""
