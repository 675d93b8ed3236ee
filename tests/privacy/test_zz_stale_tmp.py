
from tests.privacy.test_scrubbed_source import *
def test_stale(settings, documents, collection):
    (documents / "a.md").write_text(TEXT)
    (documents / "b.md").write_text("# B\n\nfine\n")
    name = collection()
    run(settings, name)
    (documents / "a.md").write_bytes(b"\x00\x01\x02" * 100)
    collection(privacy={"scrub": KINDS})
    print(run(settings, name))
    print({secret: tables_holding(settings, secret) for secret in SECRETS[:3]})
